//! `piseduce environment add`: an image file on the head node, or at an address, becomes an environment.

use super::ConfigOption;
use super::progress::with_progress;
use crate::clock;
use crate::config::Config;
use crate::data_directory::DataDirectory;
use crate::domain::environment::{Environment, check_name};
use crate::http::environment_view;
use crate::image::{Checksum, Imported, Origin, Terms};
use crate::print::Output;
use crate::runner::jobs;
use crate::store::Actor;
use std::sync::Arc;

/// What `piseduce environment add` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Add {
    /// The environment's name
    name: String,
    /// The image, a file or an http:// address: raw, .xz, .gz, .zst, .zip or .tar.gz, recognised by its content
    #[arg(value_name = "FILE|URL")]
    origin: Origin,
    /// The SHA-256 that the file must have, as its publisher gives it
    #[arg(long, value_name = "HEX")]
    sha256: Option<Checksum>,
    /// Also accept a system for machines that are no Raspberry Pis
    #[arg(long)]
    any_architecture: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Imports the image and registers it under the name.
///
/// # Errors
/// When the name is taken, the file cannot be had or is no image that can be deployed, there is no room, or
/// the user interrupts it; then nothing is left of it.
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
    let terms = Terms { checksum: add.sha256, any_architecture: add.any_architecture };
    let (importer, origin) = (library.clone(), add.origin);
    let imported =
        with_progress(output, move |progress, stop| importer.import(&origin, &terms, progress, stop)).await?;
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
    output.tell("environment", &added, |added| {
        format!("environment {} added ({})\n{}", added.name, added.family_evidence, described(&imported))
    });
    Ok(())
}

/// What the image takes up, and what the operator should know of it.
fn described(imported: &Imported) -> String {
    let sizes = imported.manifest.sizes();
    let [image, defined, stored] = [sizes.image, sizes.defined, sizes.stored].map(|bytes| bytes / 1_000_000);
    let line = format!("image {image} MB, {defined} MB of it in use, stored in {stored} MB");
    [vec![line], imported.remarks.clone()].concat().join("\n")
}
