//! What the commands that make a model file of a network have in common.

use std::path::Path;

use anyhow::{Result, ensure};
use resight::import::Imported;
use resight::label_files::{LabelFile, LabelFormat};
use resight_base::files::check_writable;
use resight_model_file::{Activation, Labels};
use resight_runtime::Head;

/// The names of the classes of the network, or of its `head` for boxes or masks, in `file`. Where it has
/// one output, one name is enough: the other class is everything else.
pub(crate) fn labels(file: &Path, model: &Path, imported: &Imported, head: Option<&Head>) -> Result<Labels> {
    let path = file;
    let file = LabelFile::read(path)?;
    let labels = &file.labels;
    if file.format != LabelFormat::Lines {
        log::info!("{}: {} names, understood as {}", path.display(), labels.len(), file.format);
    }
    let is_binary = imported.is_binary || matches!(head, Some(Head::Mask(mask)) if mask.is_binary());
    if let (true, 1, Some(name)) = (is_binary, labels.len(), labels.name(0)) {
        let both = format!("not {name}\n{}", labels.to_text());
        return Ok(Labels::parse(&path.display().to_string(), both.as_bytes())?);
    }
    let last = imported.graph.nodes.last().map_or(0, |node| node.shape[0]);
    let classes = head.and_then(Head::class_count).unwrap_or(last);
    ensure!(
        !is_binary || labels.len() == classes,
        "{}: {} labels, but {} has one output: two classes, the one of output 0 first, or the name of the \
         second alone; one line per class is expected, in their order",
        path.display(),
        labels.len(),
        model.display()
    );
    let (labels, note) = file.for_classes(classes, &model.display().to_string())?;
    if let Some(note) = note {
        log::warn!("{note}");
    }
    Ok(labels)
}

/// Refuses a place where no model file can be written.
pub(crate) fn check_output(output: &Path) -> Result<()> {
    ensure!(
        !output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")),
        "{}: a model file is no ONNX file; name it {}",
        output.display(),
        output.with_extension("resight.tar").display()
    );
    check_writable(output)?;
    Ok(())
}

/// The network with the image's size and the activation that were asked for.
pub(crate) fn as_wanted(
    mut imported: Imported,
    model: &Path,
    input: Option<[usize; 2]>,
    activation: Option<Activation>,
) -> Result<Imported> {
    if let (Some(input), Some(node)) = (input, imported.graph.nodes.first()) {
        ensure!(
            node.shape[1..] == input,
            "{}: its image is of {}x{}, whatever --input says; leave that out, or export with open height and width",
            model.display(),
            node.shape[1],
            node.shape[2]
        );
    }
    if let Some(activation) = activation {
        ensure!(
            !imported.is_binary,
            "{}: --activation is for several outputs; this network has one, whose sigmoid is the probability \
             of the second of two classes",
            model.display()
        );
        imported.activation = activation;
    }
    Ok(imported)
}

/// Height and width, such as `224x224`.
pub(crate) fn size(text: &str) -> Result<[usize; 2], NoSize> {
    let sides = text.split_once(['x', 'X']).map(|(height, width)| [height.parse(), width.parse()]);
    match sides {
        Some([Ok(height), Ok(width)]) if height > 0 && width > 0 => Ok([height, width]),
        _ => Err(NoSize),
    }
}

/// A text that is no size.
#[derive(Debug, thiserror::Error)]
#[error("expected height and width, such as 224x224")]
pub(crate) struct NoSize;
