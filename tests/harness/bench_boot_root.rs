//! Boot roots that no real board could boot: files with a description, in the place where a coordinator looks for them. Bench
//! nodes run the agent that their rack has, and fetch only what makes them ask as real boards do.

use anyhow::Context as _;
use piseduce_coordinator::netboot::boot_root::{BootRoots, Content, Description, Kind, Whom};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Adds the boot root of bench nodes to a coordinator's data directory and makes it the current one.
///
/// # Errors
/// When it cannot be written.
pub fn add_bench(data: &Path) -> anyhow::Result<()> {
    add(data, "bench", "console=ttyAMA0", &[("kernel8.img", b"no kernel".to_vec())])
}

/// The same with a name, the words that all nodes have on their kernel command line, and these files.
///
/// # Errors
/// As [`add_bench`].
pub fn add(data: &Path, version: &str, words: &str, files: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    let roots = data.join("boot-roots");
    let directory = roots.join(version);
    let mut listed = BTreeMap::new();
    for (name, content) in files {
        let path = directory.join("files").join(name);
        fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        fs::write(path, content)?;
        listed.insert((*name).to_owned(), Content::of(content));
    }
    let description = Description {
        schema: 1,
        version: version.into(),
        kind: Kind::Ram,
        command_line: words.into(),
        packages: BTreeMap::new(),
        agent: "0".into(),
        files: listed,
        exported: BTreeMap::new(),
    };
    fs::write(directory.join("boot-root.json"), serde_json::to_vec(&description)?)?;
    Ok(BootRoots::at(roots, None).choose(version, &Whom::All)?)
}

/// Leaves a coordinator without any.
///
/// # Errors
/// When they cannot be removed.
pub fn remove_all(data: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(data.join("boot-roots")).context("failed to remove the boot roots")
}
