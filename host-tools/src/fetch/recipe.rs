//! Recipes: where a known network comes from, and what it is.

use std::fs;
use std::path::{Path, PathBuf};

use resight_imaging::Preprocessing;
use resight_model_file::Labels;
use serde::Deserialize;

use super::error::FetchError;
use super::recipe_cause::{KeyFault, RecipeCause};

/// Largest network, in bytes: what a protobuf can hold.
const MAX_BYTES: u64 = (1 << 31) - 1;
/// Largest recipe, labels or notice, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// The files of `models/recipes`, so that an installed `resight` knows them too.
const BUILT_IN: [(&str, &str); 4] = [
    ("resnet18-v1-7.toml", include_str!("../../../models/recipes/resnet18-v1-7.toml")),
    ("resnet34-v1-7.toml", include_str!("../../../models/recipes/resnet34-v1-7.toml")),
    ("resnet50-v1-12.toml", include_str!("../../../models/recipes/resnet50-v1-12.toml")),
    ("resnet101-v1-7.toml", include_str!("../../../models/recipes/resnet101-v1-7.toml")),
];

/// The labels that they share, and their licence.
const BUILT_IN_TEXTS: [(&str, &str); 2] = [
    ("imagenet_synset_words.txt", include_str!("../../../models/recipes/imagenet_synset_words.txt")),
    ("imagenet_synset_words.LICENSE", include_str!("../../../models/recipes/imagenet_synset_words.LICENSE")),
];

/// Where a network comes from, what it expects and what its classes are called.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What `resight fetch` calls it: lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One line.
    pub description: String,
    /// The page that describes the network, for a person.
    pub page: String,
    /// Licence of the network, as its page states it.
    pub licence: String,
    /// Published accuracy on ImageNet's validation images, percent.
    pub top1: Option<f64>,
    /// As `top1`, for the best five classes.
    pub top5: Option<f64>,
    /// The file to download.
    pub network: NetworkFile,
    /// The names of its classes.
    pub labels: LabelFiles,
    /// What it was trained for.
    pub preprocessing: Preprocessing,
}

/// The file to download.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// Its name, `….onnx`.
    pub file: String,
    /// Its size, `1..2^31`.
    pub bytes: u64,
    /// Its sha256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Where it lies: `https` addresses, the best first.
    pub urls: Vec<String>,
}

/// Files beside the recipe, which are copied next to the network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelFiles {
    /// Class names, as [`Labels::parse`] reads them.
    pub file: String,
    /// Licence of the names, where it has to go with every copy.
    pub notice: Option<String>,
}

/// A recipe with the texts that belong to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The recipe.
    pub recipe: Recipe,
    /// Names and contents of the labels, and of their notice where there is one.
    pub texts: Vec<(String, Vec<u8>)>,
}

impl Loaded {
    /// All recipes that are built in, smallest network first.
    ///
    /// # Errors
    /// None but for a mistake in `models/recipes`, which a test would show.
    pub fn built_in() -> Result<Vec<Self>, FetchError> {
        BUILT_IN.iter().map(|(file, text)| Self::parse(Path::new(file), text, &built_in_text)).collect()
    }

    /// The recipe that is meant: a name of a built-in one, or the path of a `.toml` file, whose
    /// labels lie beside it.
    ///
    /// # Errors
    /// A name that no recipe has, files that cannot be read, contents that are not a recipe.
    pub fn find(argument: &str) -> Result<Self, FetchError> {
        let path = Path::new(argument);
        if path.extension().is_some_and(|extension| extension == "toml") || argument.contains('/') {
            let text = String::from_utf8(read(path)?).map_err(|_| wrong(path, RecipeCause::NoText))?;
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            return Self::parse(path, &text, &|name| read(&folder.join(name)));
        }
        let mut known = Self::built_in()?;
        match known.iter().position(|loaded| loaded.recipe.name == argument) {
            Some(index) => Ok(known.swap_remove(index)),
            None => Err(FetchError::Unknown {
                name: argument.to_owned(),
                known: known.iter().map(|loaded| loaded.recipe.name.as_str()).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    fn parse(
        path: &Path,
        text: &str,
        read_text: &dyn Fn(&str) -> Result<Vec<u8>, FetchError>,
    ) -> Result<Self, FetchError> {
        let recipe: Recipe = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            wrong(path, RecipeCause::Toml { line, message: error.message().replace('\n', " ") })
        })?;
        recipe.validate().map_err(|fault| wrong(path, fault.into()))?;
        let LabelFiles { file, notice } = &recipe.labels;
        let mut texts = vec![];
        for name in std::iter::once(file).chain(notice) {
            texts.push((name.clone(), read_text(name)?));
        }
        Labels::parse(file, &texts[0].1)
            .map_err(|error| wrong(path, RecipeCause::Labels(Box::new(error))))?;
        Ok(Self { recipe, texts })
    }
}

impl Recipe {
    /// Checks every value; the error says which key is wrong, and how.
    fn validate(&self) -> Result<(), KeyFault> {
        let NetworkFile { file, bytes, sha256, urls } = &self.network;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if self.name.is_empty()
            || Path::new(&self.name).extension().is_some_and(|extension| extension == "toml")
            || !self.name.chars().all(allowed)
        {
            return Err(KeyFault::Name(self.name.clone()));
        }
        for (key, text) in
            [("description", &self.description), ("page", &self.page), ("licence", &self.licence)]
        {
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(KeyFault::Line { key });
            }
        }
        for (key, percent) in [("top1", self.top1), ("top5", self.top5)] {
            if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
                return Err(KeyFault::Percent { key });
            }
        }
        plain_name("network.file", file)?;
        if Path::new(file).extension().is_none_or(|extension| extension != "onnx") {
            return Err(KeyFault::Extension(file.clone()));
        }
        if !(1..=MAX_BYTES).contains(bytes) {
            return Err(KeyFault::Bytes { found: *bytes, most: MAX_BYTES });
        }
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(KeyFault::Digest);
        }
        if urls.is_empty() {
            return Err(KeyFault::NoUrl);
        }
        for url in urls {
            let parsed = url.parse::<ureq::http::Uri>();
            if !parsed.is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some()) {
                return Err(KeyFault::Url(url.clone()));
            }
        }
        plain_name("labels.file", &self.labels.file)?;
        if let Some(notice) = &self.labels.notice {
            plain_name("labels.notice", notice)?;
        }
        let names = [Some(file), Some(&self.labels.file), self.labels.notice.as_ref()];
        let names: Vec<_> = names.into_iter().flatten().collect();
        if (1..names.len()).any(|index| names[..index].contains(&names[index])) {
            return Err(KeyFault::SameFile);
        }
        self.preprocessing.validate()?;
        let [height, width] = self.preprocessing.crop;
        let supported = Preprocessing::for_input(height, width);
        if self.preprocessing != supported {
            return Err(KeyFault::Preprocessing { expected: Box::new(supported) });
        }
        Ok(())
    }
}

/// A file name that stays in its folder and shows in a listing.
fn plain_name(key: &'static str, name: &str) -> Result<(), KeyFault> {
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control());
    if plain { Ok(()) } else { Err(KeyFault::FileName { key, found: name.to_owned() }) }
}

fn built_in_text(name: &str) -> Result<Vec<u8>, FetchError> {
    match BUILT_IN_TEXTS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok(text.as_bytes().to_vec()),
        None => Err(wrong(Path::new(name), RecipeCause::NotBuiltIn)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let failed = |source| FetchError::Local { path: path.to_owned(), action: "read", source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_TEXT {
        return Err(wrong(path, RecipeCause::TooLarge(length)));
    }
    fs::read(path).map_err(failed)
}

fn wrong(path: &Path, cause: RecipeCause) -> FetchError {
    FetchError::Recipe { path: PathBuf::from(path), cause }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_recipe_of_the_repository_is_built_in_and_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/recipes");
        let files: BTreeSet<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let built_in = BUILT_IN.iter().chain(&BUILT_IN_TEXTS).map(|(name, _)| (*name).to_owned());
        assert_eq!(files, built_in.collect::<BTreeSet<_>>());
        let recipes = Loaded::built_in().unwrap();
        for (loaded, (file, _)) in recipes.iter().zip(BUILT_IN) {
            let Recipe { name, network, .. } = &loaded.recipe;
            assert_eq!(file, format!("{name}.toml"));
            assert_eq!(network.file, format!("{name}.onnx"));
            assert!(network.urls.len() >= 2 && network.urls.iter().all(|url| url.ends_with(&network.file)));
            assert_eq!(Loaded::find(name).unwrap(), *loaded);
            assert_eq!(Loaded::find(folder.join(file).to_str().unwrap()).unwrap(), *loaded);
            let labels = Labels::parse("labels", &loaded.texts[0].1).unwrap();
            assert_eq!(labels.len(), 1000);
        }
        assert!(recipes.windows(2).all(|pair| pair[0].recipe.network.bytes < pair[1].recipe.network.bytes));
    }

    /// The checksum of the list that the model zoo's own page names as the classes' order.
    #[test]
    fn the_labels_are_those_of_the_model_zoo() {
        use sha2::{Digest, Sha256};
        let digest: String =
            Sha256::digest(BUILT_IN_TEXTS[0].1).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "acf75ef0abe89694b19056e0796401068b459c457baa30335f240c7692857355");
    }

    #[test]
    fn a_wrong_recipe_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.toml");
        fs::write(folder.path().join("imagenet_synset_words.txt"), "cat\ndog\n").unwrap();
        fs::write(folder.path().join("imagenet_synset_words.LICENSE"), "free\n").unwrap();
        let good = BUILT_IN[2].1;
        let load = |text: &str| {
            fs::write(&path, text).unwrap();
            Loaded::find(path.to_str().unwrap())
        };
        assert_eq!(load(good).unwrap().texts[0].1, b"cat\ndog\n");
        for (from, to, word) in [
            ("name = \"resnet50-v1-12\"", "name = \"Res Net\"", "Res Net"),
            ("name = \"resnet50-v1-12\"", "name = 5", "line 1"),
            ("top1 = 74.97", "top1 = 174.97", "top1"),
            ("licence = \"Apache-2.0\"", "licence = \" \"", "licence"),
            ("licence = \"Apache-2.0\"", "", "licence"),
            ("bytes = 102576593", "bytes = 0", "network.bytes"),
            ("bytes = 102576593", "size = 1", "line 10"),
            ("sha256 = \"3f", "sha256 = \"3F", "sha256"),
            ("\"https://huggingface.co/onnxmodelzoo/res", "\"http://huggingface.co/res", "https"),
            ("\"https://huggingface.co/onnxmodelzoo/res", "\"https:///res", "https"),
            ("file = \"resnet50-v1-12.onnx\"", "file = \"../resnet50.onnx\"", "plain file name"),
            ("file = \"resnet50-v1-12.onnx\"", "file = \"resnet50.pb\"", ".onnx"),
            ("file = \"imagenet_synset_words.txt\"", "file = \"/etc/passwd\"", "plain file name"),
            ("file = \"imagenet_synset_words.txt\"", "file = \"resnet50-v1-12.onnx\"", "differ"),
            ("file = \"imagenet_synset_words.txt\"", "file = \"nowhere.txt\"", "nowhere.txt"),
            ("crop = [224, 224]", "crop = [0, 224]", "preprocessing"),
            ("resize_shorter = 256", "resize_shorter = 224", "preprocessing"),
            ("0.485", "0.5", "preprocessing"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = load(&good.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word) && error.lines().count() == 1, "{to}: {error}");
        }
        fs::write(folder.path().join("imagenet_synset_words.txt"), "\n").unwrap();
        assert!(load(good).unwrap_err().to_string().contains("imagenet_synset_words.txt"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(Loaded::find(path.to_str().unwrap()).unwrap_err().to_string().contains("UTF-8"));
        let error = Loaded::find("resnet50").unwrap_err().to_string();
        assert!(error.contains("resnet50-v1-12") && error.contains("resnet101-v1-7"), "{error}");
    }
}
