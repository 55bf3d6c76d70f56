//! The layers that a network can have: a registry, and a file for each.

use std::fmt;
use std::sync::Arc;

use tract_nnef::internal::*;

use crate::layer::Layer;

/// Makes modules of the files of this crate's layers, exports the layers, and makes [`Layers::default`] know
/// them.
macro_rules! known {
    ($($module:ident::$layer:ident,)*) => {
        $(
            mod $module;
            pub use self::$module::$layer;
        )*

        impl Default for Layers {
            /// Those of this crate.
            fn default() -> Self {
                Self(Arc::default())$(.with::<$layer>())*
            }
        }
    };
}

known! {
    add::Add,
    anomaly::Anomaly,
    average_pool::AveragePool,
    channels::Channels,
    concat::Concat,
    convolution::Convolution,
    dequantise::Dequantise,
    fill::Fill,
    generalised_mean::GeneralisedMean,
    global_average::GlobalAverage,
    interleave::Interleave,
    linear::Linear,
    mahalanobis::Mahalanobis,
    max_pool::MaxPool,
    multiply::Multiply,
    nearest_neighbour::NearestNeighbour,
    normalise::Normalise,
    pad::Pad,
    resize::Resize,
    similarity::Similarity,
    table::Table,
    unknown::Unknown,
    upsample::Upsample,
    view::View,
}

pub(crate) use self::concat::SideBySide;

/// The layers that model files and programs know. Cheap to clone.
#[derive(Clone)]
pub struct Layers(Arc<Vec<LayerKind>>);

/// One kind of layer, without its type.
#[derive(Clone, Copy)]
struct LayerKind {
    nnef_name: &'static str,
    register: fn(&mut Registry),
    of: for<'a> fn(&'a TypedNode) -> Option<&'a dyn Layer>,
}

impl Layers {
    /// And one more.
    #[must_use]
    pub fn with<L: Layer + Clone>(mut self) -> Self {
        Arc::make_mut(&mut self.0).push(LayerKind {
            nnef_name: L::nnef_name(),
            register: register::<L>,
            of: |node| node.op_as::<L>().map(|layer| layer as &dyn Layer),
        });
        self
    }

    /// The layer that a node of a graph is.
    pub fn of<'a>(&self, node: &'a TypedNode) -> Option<&'a dyn Layer> {
        self.0.iter().find_map(|kind| (kind.of)(node))
    }

    /// A tract NNEF framework that knows these layers.
    ///
    /// Node names keep their dots (`layer1.0.conv1`) through NNEF's extended identifiers.
    pub fn framework(&self) -> Nnef {
        let mut registry = Registry::new("resight")
            .with_doc("Integer operators of int8 residual networks. Activations are NHWC, batch 1.");
        for kind in &*self.0 {
            (kind.register)(&mut registry);
        }
        let mut framework = tract_nnef::nnef().with_registry(registry);
        framework.allow_extended_identifier_syntax(true);
        framework
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|kind| kind.nnef_name)).finish()
    }
}

/// Makes a layer's NNEF form known to tract.
fn register<L: Layer>(registry: &mut Registry) {
    let output = [("output", TypeName::Scalar.tensor())];
    registry.register_dumper::<L>(dump);
    registry.register_primitive(L::nnef_name(), &L::nnef_parameters(), &output, load::<L>);
}

fn dump<L: Layer>(ast: &mut IntoAst<'_>, node: &TypedNode, layer: &L) -> TractResult<Option<Arc<RValue>>> {
    Ok(Some(invocation(L::nnef_name(), &[], &layer.nnef_dump(ast, node)?)))
}

fn load<L: Layer>(builder: &mut ModelBuilder<'_>, invocation: &ResolvedInvocation<'_>) -> TractResult<Value> {
    let (layer, inputs) = L::nnef_load(builder, invocation)?;
    builder.wire(layer, &inputs)
}
