use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use resight::fetch::{Event, Loaded, Outcome, Recipe, Settings, download};
use resight_base::console::{print, print_line};
use resight_base::files::write_atomically;
use serde_json::{Value, json};

use super::{megabytes, optional, print_json, seconds};

/// Arguments of `resight fetch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  resight fetch --list
  resight fetch resnet50-v1-12 --output networks/

An interrupted download continues where it ended when the command is given again, and a file that
is there already is checked and left alone. The environment variables HTTPS_PROXY, ALL_PROXY,
NO_PROXY and SSL_CERT_FILE are heeded.")]
pub(crate) struct Arguments {
    /// Name of a recipe (see --list), or the path of a recipe file.
    #[arg(required_unless_present = "list")]
    recipe: Option<String>,
    /// Folder to put the files in; it is made where it is missing.
    #[arg(short, long, default_value = ".", value_name = "DIR", hide_default_value = true)]
    output: PathBuf,
    /// Where a copy lies, tried before the recipe's own addresses: the file itself, or with a `/` at
    /// the end the folder that it is in. May be given several times.
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// Show the recipes that are built in.
    #[arg(long, conflicts_with_all = ["recipe", "mirror"])]
    list: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let start = Instant::now();
        let Some(argument) = &self.recipe else { return list(self.json) };
        let loaded = Loaded::find(argument)?;
        let recipe = &loaded.recipe;
        let mut sources = vec![];
        for mirror in &self.mirror {
            sources.push(source(mirror, &recipe.network.file)?);
        }
        sources.extend(recipe.network.urls.iter().cloned());
        // A name that is taken is found out before a hundred megabytes come, not after.
        let missing: Vec<_> = loaded
            .texts
            .iter()
            .filter_map(|(name, text)| match is_there(&self.output.join(name), text) {
                Ok(true) => None,
                Ok(false) => Some(Ok((name, text))),
                Err(error) => Some(Err(error)),
            })
            .collect::<Result<_>>()?;
        let outcome = with_bar(recipe, |observer| {
            download(&recipe.network, &sources, &self.output, &Settings::default(), observer)
        })?;
        for (name, text) in missing {
            write_atomically(&self.output.join(name), |file| file.write_all(text))?;
        }
        let command = self.quantize_command(recipe);
        if self.json {
            return print_json(&json!({
                "recipe": recipe.name,
                "network": self.output.join(&recipe.network.file),
                "bytes": recipe.network.bytes,
                "sha256": recipe.network.sha256,
                "labels": self.output.join(&recipe.labels.file),
                "licence": recipe.licence,
                "page": recipe.page,
                "already_there": outcome == Outcome::AlreadyThere,
                "source": match &outcome { Outcome::Fetched { url } => Some(url), _ => None },
                "seconds": start.elapsed().as_secs_f64(),
                "next": command,
            }));
        }
        let how = match &outcome {
            Outcome::AlreadyThere => "already there".to_owned(),
            Outcome::WasComplete => "complete since the last try".to_owned(),
            Outcome::Fetched { url } => format!("from {url} in {}", seconds(start.elapsed())),
        };
        print_line(format_args!(
            "{}: {}, {how}; its sha256 is the recipe's\nlicence {}, see {}\n\
             next, with some 200 pictures like those that the camera will see in photos/:\n  {}",
            self.output.join(&recipe.network.file).display(),
            megabytes(recipe.network.bytes),
            recipe.licence,
            recipe.page,
            command.iter().map(|word| for_shell(word)).collect::<Vec<_>>().join(" ")
        ))?;
        Ok(())
    }

    /// The words of the command that makes a model file of the network.
    fn quantize_command(&self, recipe: &Recipe) -> Vec<String> {
        let here = |name: &str| {
            let folder = if self.output == Path::new(".") { Path::new("") } else { &self.output };
            folder.join(name).display().to_string()
        };
        let (network, labels) = (here(&recipe.network.file), here(&recipe.labels.file));
        let model = here(&format!("{}.resight.tar", recipe.name));
        ["resight", "quantize", &network, "--calibration", "photos/", "--labels", &labels, "-o", &model]
            .map(str::to_owned)
            .to_vec()
    }
}

/// The address of the file on a mirror.
fn source(mirror: &str, file: &str) -> Result<String> {
    let scheme = mirror.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    ensure!(
        scheme.is_some_and(|scheme| scheme == "https" || scheme == "http"),
        "--mirror {mirror}: an address that begins with https:// or http:// is expected"
    );
    Ok(if mirror.ends_with('/') { format!("{mirror}{file}") } else { mirror.to_owned() })
}

/// Whether the file is there with this text.
fn is_there(path: &Path, text: &[u8]) -> Result<bool> {
    match fs::read(path) {
        Ok(found) if found == text => Ok(true),
        Ok(_) => bail!(
            "{}: another file is there; move it away, or choose another folder with --output",
            path.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read", path.display())),
    }
}

/// Runs a download with a progress bar on standard error, when that is a terminal; what it tries
/// and what fails is logged.
fn with_bar<T>(recipe: &Recipe, run: impl FnOnce(&mut dyn FnMut(Event<'_>)) -> T) -> T {
    let bar =
        ProgressBar::with_draw_target(Some(recipe.network.bytes), ProgressDrawTarget::stderr_with_hz(8));
    let template = "{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
    // The template is a constant that the tests run.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    let file = &recipe.network.file;
    let result = run(&mut |event| match event {
        Event::Progress(bytes) => bar.set_position(bytes),
        Event::Asking { url, from: 0 } => bar.suspend(|| log::info!("{file}: from {url}")),
        Event::Asking { url, from } => {
            bar.set_position(from);
            // The speed is that of the bytes that come, not of those that are here.
            bar.reset_eta();
            bar.suspend(|| log::info!("{file}: from byte {from} on from {url}"));
        }
        Event::Retry { url, cause, pause } => {
            bar.suspend(|| log::warn!("{url}: {cause}; another try in {}", seconds(pause)));
        }
        Event::GivenUp { url, cause } => bar.suspend(|| log::warn!("{url}: {cause}; given up")),
    });
    bar.finish_and_clear();
    result
}

fn list(json: bool) -> Result<()> {
    let recipes = Loaded::built_in()?;
    if json {
        let recipes: Vec<Value> = recipes.iter().map(|loaded| describe(&loaded.recipe)).collect();
        return print_json(&recipes);
    }
    let rows: Vec<[String; 5]> = recipes
        .iter()
        .map(|Loaded { recipe, .. }| {
            [
                recipe.name.clone(),
                megabytes(recipe.network.bytes),
                format!("{} / {}", optional(recipe.top1, 1), optional(recipe.top5, 1)),
                recipe.licence.clone(),
                recipe.description.clone(),
            ]
        })
        .collect();
    let header = ["recipe", "size", "top-1 / 5, %", "licence", "network"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let [name, size, accuracy, licence, _] = [0, 1, 2, 3, 4].map(width);
    let line = |[a, b, c, d, e]: &[String; 5]| {
        format!("{a:<name$}  {b:>size$}  {c:>accuracy$}  {d:<licence$}  {e}\n")
    };
    print(format_args!("{}", [&header].into_iter().chain(&rows).map(line).collect::<String>()))?;
    Ok(())
}

fn describe(recipe: &Recipe) -> Value {
    json!({
        "name": recipe.name,
        "description": recipe.description,
        "page": recipe.page,
        "licence": recipe.licence,
        "top1": recipe.top1,
        "top5": recipe.top5,
        "file": recipe.network.file,
        "bytes": recipe.network.bytes,
        "sha256": recipe.network.sha256,
        "urls": recipe.network.urls,
        "labels": recipe.labels.file,
        "preprocessing": recipe.preprocessing,
    })
}

/// The word as a shell takes it.
fn for_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
