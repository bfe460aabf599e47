//! `piseduce environment add`: an image file on the head node becomes an environment.

use super::ConfigOption;
use crate::clock;
use crate::config::Config;
use crate::data_directory::DataDirectory;
use crate::domain::environment::{Environment, check_name};
use crate::http::environment_view;
use crate::image::{ImportProgress, Imported, Library, Stage};
use crate::print::Output;
use crate::runner::jobs;
use crate::store::Actor;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `piseduce environment add` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Add {
    /// The environment's name
    name: String,
    /// The image: raw or .xz, recognised by its content
    file: PathBuf,
    #[command(flatten)]
    config: ConfigOption,
}

/// Imports the image and registers it under the name.
///
/// # Errors
/// When the name is taken, the file is no image that can be deployed, there is no room, or the user
/// interrupts it; then nothing is left of it.
pub async fn add(add: Add, output: Output) -> anyhow::Result<()> {
    check_name(&add.name)?;
    let Config { data_directory, free_bytes, .. } = add.config.read()?;
    let data = DataDirectory::open(&data_directory)?;
    let (store, library) = (data.store()?, Arc::new(data.library(free_bytes)?));
    if store.environments().await?.iter().any(|known| known.name == add.name) {
        anyhow::bail!(
            "there is an environment `{}` already: choose another name, or remove it first",
            add.name
        );
    }
    // Leftovers of an import that was killed go first: they may be what fills the disk.
    jobs::sweep(&library, &store).await?;
    let imported = import(library.clone(), &add.file, output).await?;
    let manifest = &imported.manifest;
    let environment = Environment {
        name: add.name.clone(),
        manifest: imported.name(),
        image_bytes: manifest.image_bytes,
        family: manifest.family.clone(),
        family_evidence: manifest.family_evidence.clone(),
        architecture: manifest.architecture.clone(),
        added: clock::unix_ms(),
    };
    let added = environment_view(environment.clone());
    store.add_environment(environment, Actor::User("root".into())).await?;
    drop(imported);
    output.tell("environment", &added, |added| {
        format!("environment {} added ({})", added.name, added.family_evidence)
    });
    Ok(())
}

/// Imports in a thread of its own, so that Ctrl-C and SIGTERM are heard meanwhile.
async fn import(library: Arc<Library>, file: &Path, output: Output) -> anyhow::Result<Imported> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, file) = (stop.clone(), file.to_owned());
    let bar = if output == Output::Json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_style(
        ProgressStyle::with_template(
            "{msg} [{bar:30}] {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left",
        )
        .expect("a valid template"),
    );
    let mut work = tokio::task::spawn_blocking(move || {
        let result = library.import(&file, &mut |progress| show(&bar, &progress), &stopped);
        bar.finish_and_clear();
        result
    });
    let result = tokio::select! {
        result = &mut work => result,
        () = crate::signal::stop() => {
            stop.store(true, Ordering::SeqCst);
            work.await
        }
    };
    Ok(result.expect("an import does not panic")?)
}

fn show(bar: &ProgressBar, progress: &ImportProgress) {
    bar.set_message(match progress.stage {
        Stage::Decoding => "unpacking",
        Stage::Packing => "packing  ",
    });
    bar.set_length(progress.total.unwrap_or(progress.done));
    bar.set_position(progress.done);
}
