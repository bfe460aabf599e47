//! What the coordinator keeps: the store and its journal, the images, the programs of its switches.

use super::Check;
use crate::clock;
use crate::data_directory::{IMAGES, STORE};
use crate::domain::driver::{CommandSettings, Driver, SerialSettings};
use crate::domain::reservation::utc;
use crate::image::ImageFiles;
use crate::store::{Contents, Examination, SCHEMA_VERSION, StoreError};
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// How far the clock may stand behind the last journal entry; as much as the calendar tolerates.
const BACKWARDS_MS_MAX: u64 = 5000;

pub(super) fn examine(directory: &Path) -> Vec<Check> {
    let file = directory.join(STORE);
    if !file.exists() {
        let found = format!("{} is not there yet", file.display());
        return vec![Check::warn("store", found, "the first start makes it")];
    }
    let mut checks = Vec::new();
    match store(&file) {
        Ok((check, contents)) => {
            checks.push(check);
            if let Some(contents) = contents {
                checks.extend(journal(&contents));
                checks.push(images(&directory.join(IMAGES), &contents));
                checks.push(switches(&contents));
            }
        }
        Err(error) => {
            let found = format!("{:#}", anyhow::Error::new(error));
            let advice = "restore the last backup: `piseduce restore`; keep the directory until that worked";
            checks.push(Check::fail("store", found, advice));
        }
    }
    checks
}

fn store(file: &Path) -> Result<(Check, Option<Contents>), StoreError> {
    let mut examination = Examination::open(file)?;
    let examined = examination.check()?;
    if let Some(damage) = examined.damage.first() {
        let advice = "restore the last backup: `piseduce restore --replace`";
        return Ok((Check::fail("store", format!("{} is damaged: {damage}", file.display()), advice), None));
    }
    if examined.version > SCHEMA_VERSION {
        let found = format!("version {}, and this program knows {SCHEMA_VERSION}", examined.version);
        return Ok((
            Check::fail("store", found, "run the version of piseduce that wrote it, or a later one"),
            None,
        ));
    }
    let contents = examination.contents(file)?;
    let check = match examined.version == SCHEMA_VERSION {
        true => Check::ok(
            "store",
            format!(
                "version {SCHEMA_VERSION}, sound, {} nodes, {} live deployments",
                contents.nodes.len(),
                contents.live
            ),
        ),
        false => Check::warn(
            "store",
            format!("version {}, the next start brings it to {SCHEMA_VERSION}", examined.version),
            "make a backup first: `piseduce backup`",
        ),
    };
    Ok((check, Some(contents)))
}

/// A clock that stands behind what was seen before ends no reservation.
fn journal(contents: &Contents) -> Option<Check> {
    let last = contents.last_entry?;
    let now = clock::unix_ms();
    Some(match now.0.saturating_add(BACKWARDS_MS_MAX) < last.0 {
        false => Check::ok("journal", format!("last entry at {}", utc(last.0))),
        true => Check::fail(
            "journal",
            format!("the clock says {}, and the last entry is of {}", utc(now.0), utc(last.0)),
            "set the clock; no reservation ends until it is later than that",
        ),
    })
}

fn images(root: &Path, contents: &Contents) -> Check {
    let mut wrong = Vec::new();
    for name in &contents.pinned {
        let users = contents.environments.iter().filter(|environment| environment.manifest == *name);
        let users: Vec<String> =
            users.map(|environment| format!("environment {}", environment.name)).collect();
        let users = if users.is_empty() { "a live deployment".into() } else { users.join(", ") };
        match ImageFiles::find(root, *name) {
            Ok(Some(_)) => {}
            Ok(None) => wrong.push(format!("the image of {users} is missing")),
            Err(error) => wrong.push(format!("{:#} ({users})", anyhow::Error::new(error))),
        }
    }
    if wrong.is_empty() {
        return Check::ok("images", format!("{} in use, none missing or cut off", contents.pinned.len()));
    }
    let advice =
        "import them again: `piseduce environment remove NAME`, then `piseduce environment add NAME FILE`";
    Check::fail("images", wrong.join("; "), advice)
}

/// The programs and devices by which switches are spoken to, which are the operator's own.
fn switches(contents: &Contents) -> Check {
    let mut used = HashSet::new();
    let mut wrong = Vec::new();
    for switch in &contents.switches {
        let name = &switch.attributes.name;
        match &switch.attributes.driver {
            Driver::Command(CommandSettings { argv }) => {
                let Some(program) = argv.first() else { continue };
                if used.insert(program) && !is_program(program) {
                    wrong.push(format!("{program} of switch {name} is no program"));
                }
            }
            Driver::Serial(SerialSettings { device, .. }) => {
                if used.insert(device) && !Path::new(device).exists() {
                    wrong.push(format!("{device} of switch {name} is not there"));
                }
            }
            Driver::Snmp(_) | Driver::Http(_) | Driver::Manual => {}
        }
        let file = switch.attributes.driver.secrets();
        wrong.extend(file.filter(|file| !is_private(file)).map(|file| {
            format!("the secrets file {} of switch {name} is missing, or others may read it", file.display())
        }));
    }
    if wrong.is_empty() {
        return Check::ok(
            "switches",
            format!("{}, each with its program, device and secrets", contents.switches.len()),
        );
    }
    let advice = "put it there, executable, plug it in, or `chmod 600` it; no request to the switch succeeds until then";
    Check::fail("switches", wrong.join("; "), advice)
}

/// Whether only its owner may read the file.
fn is_private(file: &Path) -> bool {
    file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o077 == 0)
}

/// Whether a program can be started by this word, as execvp(3) looks for it.
fn is_program(word: &str) -> bool {
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if word.contains('/') {
        return is_executable(Path::new(word));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|place: PathBuf| place.join(word));
    places.any(|place| is_executable(&place))
}
