//! Preprocessing as a model file holds it: the member `preprocessing.json`.

use resight_base::files::FileError;
use resight_base::text::printable;
use resight_imaging::Preprocessing;

use crate::error::ModelFileError;

/// Reads and checks `preprocessing.json`; `file` is for the message.
///
/// # Errors
/// Anything that is not JSON of this structure, or fails [`Preprocessing::validate`].
pub fn preprocessing_from_json(file: &str, json: &[u8]) -> Result<Preprocessing, ModelFileError> {
    let content = |cause: String| FileError::content(file, cause);
    let result: Preprocessing =
        serde_json::from_slice(json).map_err(|error| content(printable(&error.to_string())))?;
    result.validate().map_err(|error| content(error.to_string()))?;
    Ok(result)
}

/// The content of `preprocessing.json`.
#[expect(clippy::missing_panics_doc, reason = "numbers and arrays always serialise")]
pub fn preprocessing_to_json(preprocessing: &Preprocessing) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(preprocessing).expect("numbers and arrays only");
    json.push(b'\n');
    json
}
