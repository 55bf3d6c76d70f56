//! `[model]` and `[safety]`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use resight_runtime::ThreadSettings;

use super::key::{Expected, Key, Table};
use super::reader::{Reader, Section, integer, text};

const FILE: Key = Key::set(
    "file",
    "\"model.resight.tar\"",
    Expected::Words("the path of a model file"),
    "The model file, made by `resight quantize`.",
);
const PUBLIC_KEY: Key = Key::shown(
    "public_key",
    "\"resight.pub\"",
    Expected::Words("the path of a key file"),
    "Refuses a model that this key has not signed; `resight keygen` and `resight sign`.",
);
const THREADS: Key = Key::shown(
    "threads",
    "4",
    Expected::Words("a whole number from 1 to 256"),
    "Compute threads; one for each fast core by default. With more, layers wait for the slow cores.",
);
const PIN: Key = Key::shown("pin", "true", Expected::Boolean, "Binds each thread to one core.");

pub(super) const MODEL: Table = Table::set("[model]", "", &[FILE, PUBLIC_KEY, THREADS, PIN]);

const STALE_MS: Key = Key::set(
    "stale_ms",
    "2000",
    Expected::Milliseconds(1),
    "All lines go to their safe levels when no frame was classified for so long.",
);
const DRY_RUN: Key = Key::shown(
    "dry_run",
    "true",
    Expected::Boolean,
    "Dry run: rules are evaluated and tell what they would do, but all lines stay at their safe levels. The page can \
     switch the same for as long as the service runs; what is true here, it cannot end.",
);

pub(super) const SAFETY: Table = Table::set("[safety]", "", &[STALE_MS, DRY_RUN]);

/// After so long without a frame lines go to their safe levels, where nothing is said.
const STALE: Duration = Duration::from_secs(2);

/// The model file and the key that must have signed it.
pub(super) type Files = (PathBuf, Option<PathBuf>);

impl<'i> Reader<'i> {
    pub(super) fn model(
        &mut self,
        mut section: Section<'_, 'i>,
        folder: &Path,
    ) -> Option<(Files, ThreadSettings)> {
        let files = self.model_files(&mut section, folder);
        let threads = self.optional(&mut section, &THREADS, |value| {
            NonZeroUsize::new(usize::try_from(integer(value)?).ok()?).filter(|threads| threads.get() <= 256)
        });
        let pin = self.flag(&mut section, &PIN).unwrap_or(false);
        self.finish(&section);
        Some((files?, ThreadSettings { threads, pin }))
    }

    pub(super) fn model_files(&mut self, section: &mut Section<'_, 'i>, folder: &Path) -> Option<Files> {
        let file = self.required(section, &FILE, text);
        let key = self.text_of(section, &PUBLIC_KEY);
        Some((folder.join(file?), key.map(|key| folder.join(key))))
    }

    /// When lines go to their safe levels, and whether they always stay there.
    pub(super) fn safety(&mut self, section: Option<Section<'_, 'i>>) -> (Duration, bool) {
        let Some(mut section) = section else { return (STALE, false) };
        let stale = self.duration(&mut section, &STALE_MS).unwrap_or(STALE);
        let dry_run = self.flag(&mut section, &DRY_RUN).unwrap_or(false);
        self.finish(&section);
        (stale, dry_run)
    }
}
