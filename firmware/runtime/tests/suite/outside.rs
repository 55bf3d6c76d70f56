//! A layer that the library has never heard of: defined here, written to a model file, read from
//! it, and run by tract's plan and by the compiled program.

use resight_kernels::{KernelError, Parallel};
use resight_model_file::{Archive, Golden, Task};
use resight_runtime::layer;
use resight_runtime::tract::*;
use resight_runtime::{
    CacheSizes, Description, Inputs, Isa, Layer, Layers, Model, Output, PackedLayer, Program, Target,
    TensorFact, nnef, one_input,
};

use crate::common::{both_ways, by_plan, by_program, file, input, network};

/// Turns an int8 activation round its zero point: `clamp(2 * zero_point - q)`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Negation {
    zero_point: i8,
}

layer!(Negation, "TestNegation");

impl Layer for Negation {
    fn output(&self, inputs: &[TensorFact]) -> TractResult<TensorFact> {
        let input = one_input("a negation", inputs)?;
        input.expect(DatumType::I8)?;
        Ok(input.clone())
    }

    fn describe(&self, _: &[TensorFact]) -> TractResult<Description> {
        Ok(Description { operator: "negation".into(), ..Description::default() })
    }

    fn kernel(&self, _: Isa, _: CacheSizes, _: &[TensorFact]) -> TractResult<&'static str> {
        Ok("negation")
    }

    fn pack(&self, _: &Target, _: &[TensorFact]) -> TractResult<Box<dyn PackedLayer>> {
        Ok(Box::new(PackedNegation { twice: 2 * i16::from(self.zero_point) }))
    }

    fn nnef_name() -> &'static str {
        "resight_test_negation"
    }

    fn nnef_parameters() -> Vec<Parameter> {
        vec![TypeName::Scalar.tensor().named("input"), TypeName::Integer.named("zero_point")]
    }

    fn nnef_dump(&self, ast: &mut IntoAst<'_>, node: &TypedNode) -> TractResult<Vec<(&'static str, RValue)>> {
        Ok(vec![("input", nnef::input(ast, node, 0)), ("zero_point", numeric(self.zero_point))])
    }

    fn nnef_load(
        builder: &mut ModelBuilder<'_>,
        invocation: &ResolvedInvocation<'_>,
    ) -> TractResult<(Self, TVec<OutletId>)> {
        let input = invocation.named_arg_as(builder, "input")?;
        Ok((Self { zero_point: nnef::integer(builder, invocation, "zero_point")? }, tvec!(input)))
    }
}

#[derive(Debug)]
struct PackedNegation {
    twice: i16,
}

impl PackedLayer for PackedNegation {
    fn kernel(&self) -> &'static str {
        "negation"
    }

    fn run(
        &self,
        _: &dyn Parallel,
        inputs: Inputs<'_>,
        output: Output<'_>,
        _: &mut [u8],
    ) -> Result<(), KernelError> {
        for (output, input) in output.slice::<i8>()?.iter_mut().zip(inputs.slice::<i8>(0)?) {
            *output = (self.twice - i16::from(*input)).clamp(-128, 127) as i8;
        }
        Ok(())
    }
}

fn layers() -> Layers {
    Layers::default().with::<Negation>()
}

/// The small network with a negation after its pool.
fn negated() -> TypedModel {
    let mut model = network();
    let pool = model.node_by_name("pool").unwrap().id;
    let readers: Vec<InletId> = model.node(pool).outputs[0].successors.to_vec();
    let negation = model.wire_node("negated", Negation { zero_point: -3 }, &[pool.into()]).unwrap()[0];
    for reader in readers {
        model.add_edge(negation, reader).unwrap();
    }
    model
}

#[test]
fn a_layer_from_outside_is_stored_loaded_and_run_both_ways() {
    let (graph, layers) = (negated(), layers());
    let expected = both_ways(&graph, &layers);
    assert_ne!(expected, by_program(&network(), &layers, Target::reference()), "the layer does nothing");

    let logits = expected[0].chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect();
    let golden = [Golden::classes(input(), logits)];
    let bytes = file(&graph, &layers, Task::default(), "a\nb\nc\nd\ne\n", &golden);
    assert_eq!(bytes, file(&graph, &layers, Task::default(), "a\nb\nc\nd\ne\n", &golden));
    let archive = Archive::from_bytes("m.tar", bytes.clone()).unwrap();
    let model = Model::with_layers("m.tar", &archive, layers.clone()).unwrap();
    assert_eq!(by_plan(model.graph(), Target::reference()), expected);
    assert_eq!(both_ways(model.graph(), model.layers()), expected);
    let steps = model.compile(&Target::reference()).unwrap().steps();
    let negation = steps.iter().find(|step| step.name == "negated").unwrap();
    assert_eq!(
        (&*negation.operator, &*negation.kernel, negation.output),
        ("negation", "negation", [5, 4, 8])
    );
    let foreign = model.steps_on(Isa::NeonDot).unwrap();
    assert_eq!(foreign.iter().filter(|step| step.kernel == "negation").count(), 1);

    // Who does not know it refuses it by name.
    let error = Model::from_bytes("m.tar", bytes).unwrap_err().to_string();
    assert!(
        error.starts_with("m.tar: the graph cannot be read: ") && error.contains("resight_test_negation"),
        "{error}"
    );
    let error = Program::compile(&graph, &Layers::default(), &Target::reference()).unwrap_err().to_string();
    assert_eq!(error, "node `negated` (TestNegation): not an int8 operator of resight");
}

#[test]
fn a_layer_from_outside_refuses_what_it_cannot_take() {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I16.fact([1, 2])).unwrap();
    let error = model.wire_node("negated", Negation { zero_point: 0 }, &[image]).unwrap_err();
    assert!(format!("{error:#}").contains("expected an input of I8, found I16"), "{error:#}");
}

/// docs/adding-a-layer.md shows parts of this file.
#[test]
fn the_guide_shows_this_code() {
    let page = include_str!("../../../../docs/adding-a-layer.md");
    let blocks: Vec<&str> =
        page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        assert!(include_str!("outside.rs").contains(block), "the guide shows other code:\n{block}");
    }
}
