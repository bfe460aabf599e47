//! `piseduce backup`: everything that a head node needs again, as one file, while the coordinator runs. The site
//! key is never in it: a head that is restored makes a new one.

mod archive;
pub mod restore;

use super::{ConfigOption, in_background};
use crate::clock;
use crate::config::Config;
use crate::data_directory::{IMAGES, STORE};
use crate::image::{FileLock, ImageFiles};
use crate::print;
use crate::store::{Contents, Examination};
use anyhow::{Context as _, bail};
use archive::{FORMAT, List, Listed};
use indicatif::{ProgressBar, ProgressStyle};
use piseduce_protocol::id::Hash;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What `piseduce backup` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Backup {
    /// The file to write, such as /mnt/piseduce-2026-11-24.tar.zst
    output: PathBuf,
    /// Leave the images out; their environments must be imported again after a restore
    #[arg(long)]
    without_images: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Writes the backup.
///
/// # Errors
/// When the output is there already or cannot be written, something that belongs in it is damaged, or the user
/// interrupts it; then nothing is left of it.
pub async fn backup(backup: Backup) -> anyhow::Result<()> {
    let config = backup.config.read()?;
    let settings = std::fs::read_to_string(backup.config.file())
        .with_context(|| format!("failed to read {}", backup.config.file().display()))?;
    if backup.output.try_exists()? {
        bail!("{} is there already: choose another name", backup.output.display());
    }
    let output = backup.output.clone();
    let taken = in_background(move |stop| take(&config, settings, &backup, stop)).await?;
    print::line(format!("{} written: {taken}", output.display()));
    Ok(())
}

/// Does the work in a directory beside the output, of which nothing stays.
fn take(config: &Config, settings: String, backup: &Backup, stop: &AtomicBool) -> anyhow::Result<String> {
    let parent = backup.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let scratch = archive::scratch(parent, ".piseduce-backup-")?;
    let data = &config.data_directory;
    // FileLock before the store is copied: no image that the copy names is swept until it is in the backup.
    let _held = match backup.without_images {
        true => None,
        false => hold_images(data)?,
    };
    let copy = scratch.path().join(STORE);
    let (version, contents) = copy_store(&data.join(STORE), &copy)?;
    let images = if backup.without_images { Vec::new() } else { images(data, &contents.pinned)? };
    let (mut files, mut sources) = (vec![archive::listed(STORE.into(), &copy, stop)?], vec![copy]);
    for (listed, source) in images {
        files.push(listed);
        sources.push(source);
    }
    let list = List {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").into(),
        store: version,
        site: config.site.name().into(),
        unix_ms: clock::unix_ms().0,
        settings,
        environments: contents
            .environments
            .iter()
            .map(|known| (known.name.clone(), known.manifest))
            .collect(),
        images: !backup.without_images,
        files,
    };
    let draft = scratch.path().join("backup");
    let bar = progress_bar("writing");
    archive::write(&list, &sources, &draft, stop, &bar)?;
    bar.finish_and_clear();
    archive::rename(&draft, &backup.output)?;
    Ok(format!(
        "{} nodes, {} live deployments, {} environments {}",
        contents.nodes.len(),
        contents.live,
        list.environments.len(),
        if list.images { "with their images" } else { "without images" }
    ))
}

/// Keeps sweeps away from the images; none when there are no images yet.
fn hold_images(data: &Path) -> anyhow::Result<Option<FileLock>> {
    let root = data.join(IMAGES);
    Ok(root.exists().then(|| ImageFiles::hold(&root)).transpose()?)
}

fn copy_store(store: &Path, copy: &Path) -> anyhow::Result<(usize, Contents)> {
    if !store.try_exists()? {
        bail!("there is no store {}: `piseduce serve` makes it at its first start", store.display());
    }
    Examination::open(store)?.copy_to(copy)?;
    // What is read from the copy belongs together, whatever is written meanwhile.
    let mut examination = Examination::open(copy)?;
    let examined = examination.check()?;
    if let Some(damage) = examined.damage.first() {
        bail!("the store {} is damaged ({damage}): restore the last good backup", store.display());
    }
    Ok((examined.version, examination.contents(copy)?))
}

/// The files of the images, each once: environments share packs.
fn images(data: &Path, pinned: &HashSet<Hash>) -> Result<Vec<(Listed, PathBuf)>, anyhow::Error> {
    let mut paths = BTreeSet::new();
    for name in pinned {
        let files = ImageFiles::find(&data.join(IMAGES), *name)?;
        let files = files.with_context(|| {
            format!("image {name} is missing: import its environment again, or use --without-images")
        })?;
        paths.insert(files.manifest);
        paths.extend(files.packs);
    }
    paths.into_iter().map(|path| Ok((listed_by_name(data, &path)?, path))).collect()
}

/// Files of images are named by their hashes, so none has to be read twice; writing the archive checks them.
fn listed_by_name(data: &Path, file: &Path) -> anyhow::Result<Listed> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hash = name.parse().with_context(|| format!("{} is not named by a hash", file.display()))?;
    let path = file.strip_prefix(data).expect("images lie in the directory").to_string_lossy().into_owned();
    let bytes = file.metadata().map_err(archive::io_error("read", file))?.len();
    Ok(Listed { path, bytes, hash })
}

/// A bar whose length is set when it is known; hidden where nobody sees it.
fn progress_bar(what: &'static str) -> ProgressBar {
    let style = "{msg} [{bar:30}] {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("a valid template");
    ProgressBar::new(0).with_style(style).with_message(what)
}
