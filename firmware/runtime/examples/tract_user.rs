//! A program of its own that runs a model file in tract, beside whatever else it does with tract:
//!
//! ```text
//! cargo run -p resight-runtime --example tract_user -- resnet50.resight.tar cat.jpg
//! ```
#![allow(clippy::print_stdout, reason = "a program of its own has its own output")]

use std::path::Path;

use resight_imaging::{ImageView, Preprocessor, decode};
use resight_runtime::tract::{IntoTValue as _, Tensor, TractResult, bail, tvec};
use resight_runtime::{Model, Target, plan};

/// The logits of a picture.
pub(crate) fn logits(model: &Model, picture: &Path) -> TractResult<Vec<f32>> {
    // Checked: sums, signature if a key is given, shapes. `Layers` is the registry behind it.
    let plan = plan(model.graph().clone(), Target::of_this_machine()?)?;
    let mut preprocessor = Preprocessor::new(model.preprocessing())?;
    let mut pixels = vec![0i8; preprocessor.input_len()];
    preprocessor.quantise(&ImageView::of(&decode(picture)?)?, &mut pixels)?;
    // Batch, height, width, channels of int8; what comes out is [1, classes] of f32.
    let [height, width] = model.preprocessing().crop.map(|side| side as usize);
    let shape = [1, height, width, model.preprocessing().channels.count()];
    let outputs = plan.run(tvec!(Tensor::from_shape(&shape, &pixels)?.into_tvalue()))?;
    Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, picture] = arguments.as_slice() else { bail!("a model file and a picture are expected") };
    let model = Model::load(Path::new(model))?;
    let logits = logits(&model, Path::new(picture))?;
    let best = resight_runtime::predictions(&logits, 1)[0];
    println!("{} ({:.0} %)", model.labels().name(best.class).unwrap_or("?"), best.probability * 100.0);
    Ok(())
}
