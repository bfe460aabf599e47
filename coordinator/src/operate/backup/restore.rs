//! `piseduce restore`: a backup becomes a coordinator's directory. Everything is unpacked and checked beside the
//! place where it will be, and moved there by one rename: interrupted at any moment, the old directory is there
//! or the new one, whole.

use super::archive::{self, ArchiveError, List};
use super::progress_bar;
use crate::clock;
use crate::config::Config;
use crate::data_directory::{DataDirectory, IMAGES, LOCK, SITE_KEY, STORE};
use crate::domain::reservation::utc;
use crate::image::{FreeSpace, ImageFiles};
use crate::operate::{ConfigOption, in_background};
use crate::print;
use crate::store::{Contents, Examination, SCHEMA_VERSION};
use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// What `piseduce restore` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Restore {
    /// A file that `piseduce backup` wrote
    backup: PathBuf,
    /// Put the backup in the place of what is there; the old directory is kept beside it
    #[arg(long)]
    replace: bool,
    /// Where the settings are, or where they are put when there are none yet
    #[command(flatten)]
    config: ConfigOption,
}

/// Where a backup goes.
struct Target {
    /// The coordinator's directory itself, not a link to it.
    directory: PathBuf,
    /// The settings of the backup, when the head had none.
    settings: Option<String>,
    staging: TempDir,
    /// Keeps coordinators out of the directory that is replaced.
    _locked: Option<File>,
}

impl AsRef<Path> for Target {
    fn as_ref(&self) -> &Path {
        self.staging.path()
    }
}

/// What a restore has done.
struct Restored {
    list: List,
    contents: Contents,
    directory: PathBuf,
    aside: Option<PathBuf>,
    settings_written: bool,
    /// Environments whose images are not there.
    without_image: Vec<String>,
}

/// Restores the backup.
///
/// # Errors
/// When a coordinator runs, there is something already, the backup is not whole or of a newer version, there is
/// no room, or the user interrupts it; then nothing is changed. When something fails after the exchange, the old
/// directory is where the error says.
pub async fn restore(restore: Restore) -> anyhow::Result<()> {
    let file = restore.config.file().to_owned();
    let backup = restore.backup.clone();
    let restored = in_background(move |stop| unpack(&restore, stop)).await?;
    tell(&restored, &file, &backup);
    Ok(())
}

fn unpack(restore: &Restore, stop: &AtomicBool) -> anyhow::Result<Restored> {
    let backup = archive::Backup::open(&restore.backup)?;
    let bar = progress_bar("checking and unpacking");
    let (list, target) = backup.unpack(stop, &bar, |list| prepare(restore, list))?;
    bar.finish_and_clear();
    let store = target.staging.path().join(STORE);
    let mut examination = Examination::open(&store)?;
    if let Some(damage) = examination.check()?.damage.first() {
        bail!("the store in {} is damaged: {damage}", restore.backup.display());
    }
    let contents = examination.contents(&store)?;
    drop(examination);
    let images = target.staging.path().join(IMAGES);
    let mut without_image = Vec::new();
    for environment in &contents.environments {
        if ImageFiles::find(&images, environment.manifest)?.is_none() {
            without_image.push(environment.name.clone());
        }
    }
    if stop.load(Ordering::Relaxed) {
        return Err(ArchiveError::Stopped.into());
    }
    let directory = target.directory;
    own_as(target.staging.path(), &directory)?;
    let aside = put_in_place(target.staging, &directory)?;
    if let Some(settings) = &target.settings {
        write_settings(restore.config.file(), settings)?;
    }
    let settings_written = target.settings.is_some();
    Ok(Restored { list, contents, directory, aside, settings_written, without_image })
}

/// Finds out everything that stands in the way before a byte is written.
fn prepare(restore: &Restore, list: &List) -> anyhow::Result<Target> {
    if list.store > SCHEMA_VERSION {
        let (path, program) = (restore.backup.clone(), list.program.clone());
        return Err(ArchiveError::Newer { path, program }.into());
    }
    let file = restore.config.file();
    let (config, settings) = match file.try_exists()? {
        true => (restore.config.read()?, None),
        false => (Config::parse(&list.settings, file)?, Some(list.settings.clone())),
    };
    let directory = match fs::canonicalize(&config.data_directory) {
        Ok(directory) => directory,
        Err(_) => std::path::absolute(&config.data_directory)?,
    };
    let locked = check_directory(&directory, restore.replace)?;
    let parent = directory.parent().context("data_directory is the root of the file system")?;
    if !parent.is_dir() {
        bail!("{} is not there: create it first", parent.display());
    }
    let needed = list.bytes();
    let FreeSpace { free, floor } = FreeSpace::of(parent, config.free_bytes)?;
    if free < needed.saturating_add(floor) {
        bail!(
            "{} has {free} bytes free; the backup needs {needed}, and {floor} must stay free",
            parent.display()
        );
    }
    let staging = archive::scratch(parent, ".piseduce-restore-")
        .with_context(|| format!("{} must be writable, as it is for root", parent.display()))?;
    Ok(Target { directory, settings, staging, _locked: locked })
}

/// Refuses a directory with something in it, unless it is to be replaced and no coordinator uses it.
fn check_directory(directory: &Path, replace: bool) -> anyhow::Result<Option<File>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to look into {}", directory.display()));
        }
    };
    if entries.count() == 0 {
        return Ok(None);
    }
    let locked = match directory.join(LOCK).exists() {
        true => Some(DataDirectory::open(directory)?.lock()?),
        false => None,
    };
    if !replace {
        bail!("{} is not empty: with --replace it is kept beside the restored one", directory.display());
    }
    Ok(locked)
}

/// Gives what was unpacked to the user whom the directory belongs to: the one that the coordinator runs as.
fn own_as(staging: &Path, directory: &Path) -> anyhow::Result<()> {
    let Ok(owner) = fs::metadata(directory) else { return Ok(()) };
    if owner.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let mut pending = vec![staging.to_owned()];
    while let Some(path) = pending.pop() {
        let owned = lchown(&path, Some(owner.uid()), Some(owner.gid()));
        owned.with_context(|| format!("failed to give {} to its owner", path.display()))?;
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// Puts the staged directory where the old one is, which moves aside.
fn put_in_place(staging: TempDir, directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    archive::sync_directory(staging.path())?;
    let failed = |error: rustix::io::Errno| {
        let hint = match error {
            rustix::io::Errno::BUSY => "; it is a mount point: set data_directory to a directory below it",
            rustix::io::Errno::INVAL => {
                "; its file system cannot exchange directories: move the old one away"
            }
            _ => "",
        };
        anyhow::Error::new(std::io::Error::from(error))
            .context(format!("failed to put the backup in the place of {}{hint}", directory.display()))
    };
    let is_empty = fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        rustix::fs::rename(staging.path(), directory).map_err(failed)?;
        // It is no longer where it would be removed.
        let _ = staging.keep();
        archive::sync_directory(directory.parent().expect("checked before"))?;
        return Ok(None);
    }
    renameat_with(CWD, staging.path(), CWD, directory, RenameFlags::EXCHANGE).map_err(failed)?;
    // From here on the staging directory is the old one, which must not be removed.
    let old = staging.keep();
    let stamp = utc(clock::unix_ms().0).replace(':', "");
    let name = directory.file_name().expect("a directory with a parent has a name").to_string_lossy();
    let aside = directory.with_file_name(format!("{name}.replaced-{stamp}"));
    archive::rename(&old, &aside)?;
    Ok(Some(aside))
}

fn write_settings(file: &Path, settings: &str) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, settings)?;
        // The coordinator runs as another user than root, who restores; no secret is in it.
        fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
        File::open(file)?.sync_all()
    };
    written().with_context(|| format!("failed to write the settings to {}", file.display()))
}

fn tell(restored: &Restored, file: &Path, backup: &Path) {
    let Restored { list, contents, directory, .. } = restored;
    print::line(format!(
        "{} restored to {}: site {}, as of {}, {} nodes, {} environments, {} live deployments",
        backup.display(),
        directory.display(),
        list.site,
        utc(list.unix_ms),
        contents.nodes.len(),
        contents.environments.len(),
        contents.live
    ));
    if let Some(aside) = &restored.aside {
        print::line(format!(
            "the directory before is {}: remove it when you do not miss anything",
            aside.display()
        ));
    }
    if restored.settings_written {
        print::line(format!(
            "settings of the backup written to {}: check the addresses in it, then run `piseduce doctor`",
            file.display()
        ));
    } else {
        print::line(format!("settings of {} kept as they are", file.display()));
    }
    for name in &restored.without_image {
        print::line(format!(
            "environment {name} has no image: `piseduce environment remove {name}`, then `piseduce environment add {name} FILE`"
        ));
    }
    print::line(format!(
        "the site key ({SITE_KEY}) is in no backup: the next start makes a new one. Nodes that run the boot root now are \
         not heard any more and are booted again, from their restart budget; deployed nodes keep working, and keep \
         their host keys"
    ));
    if fs::metadata(directory).is_ok_and(|it| it.uid() == 0) {
        let directory = directory.display();
        print::line(format!("{directory} belongs to root; for the service: chown -R piseduce: {directory}"));
    }
}
