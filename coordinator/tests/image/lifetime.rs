//! Imports that are stopped or killed, and sweeps beside imports that live. The killed ones are real
//! processes: this test program, started again.

use crate::disk::{Random, debian_disk, program, xz};
use crate::{Fixture, library_in, open, reassemble};
use piseduce_coordinator::image::{ImportError, Library, Swept, Terms};
use piseduce_protocol::id::Hash;
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Names the image that a child process of a test imports.
const CHILD_SOURCE: &str = "PISEDUCE_TEST_IMPORT_SOURCE";
/// What the child says at every call of its progress function, before it waits for a line or the end of them.
const STEP: &str = "import goes on";

/// No test of its own: what the children of the test below run.
#[test]
fn as_a_child_import() {
    let Some(source) = std::env::var_os(CHILD_SOURCE).map(PathBuf::from) else { return };
    let library = open(source.parent().unwrap());
    let mut wait = |_| {
        println!("{STEP}");
        std::io::stdin().read_line(&mut String::new()).unwrap();
    };
    let imported = library.import(&(&*source).into(), &Terms::default(), &mut wait, &AtomicBool::new(false));
    drop(imported.unwrap());
}

/// When a child is killed.
#[derive(Debug)]
enum Moment {
    /// On the way from this step to the next.
    Step(usize),
    /// As soon as this directory of the library has anything in it.
    Filled(&'static str),
    /// As soon as this file of the import exists.
    Begun(&'static str),
}

/// Imports `source` in a child process that is killed at `moment`.
fn import_and_die(source: &Path, library: &Path, moment: &Moment) {
    let mut child = program(std::env::current_exe().unwrap())
        .args(["--exact", "lifetime::as_a_child_import", "--nocapture"])
        .env(CHILD_SOURCE, source)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut go_on = child.stdin.take();
    // Open to the end: a child that cannot speak would clean up.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let filled = |directory: &str| fs::read_dir(library.join(directory)).unwrap().next().is_some();
    let begun = |file: &str| library.join("incoming/0").join(file).exists();
    match moment {
        Moment::Step(step) => {
            let steps = lines.by_ref().filter(|line| line.as_ref().unwrap().ends_with(STEP));
            steps.take(*step).for_each(|_| go_on.as_mut().unwrap().write_all(b"\n").unwrap());
        }
        Moment::Filled(directory) => {
            drop(go_on.take());
            while child.try_wait().unwrap().is_none() && !filled(directory) {}
        }
        Moment::Begun(file) => {
            drop(go_on.take());
            while child.try_wait().unwrap().is_none() && !begun(file) {}
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Every manifest that can be seen is whole, and so is all that it names.
fn check_whole(library: &Library, root: &Path, image: &[u8]) -> usize {
    let manifests = fs::read_dir(root.join("manifests")).unwrap();
    let names: Vec<Hash> =
        manifests.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    for name in &names {
        let manifest = library.manifest(*name).unwrap().unwrap();
        assert!(reassemble(library, &manifest) == image);
    }
    names.len()
}

#[test]
fn an_import_that_is_killed_leaves_nothing_that_a_sweep_does_not_remove() {
    let fixture = Fixture::new();
    let raw = debian_disk(fixture.directory.path());
    let image = fs::read(&raw).unwrap();
    let packed = xz(&raw);
    let root = library_in(fixture.directory.path());
    let mut random = Random(7);
    let steps = (0..12).map(|_| Moment::Step(1 + random.below(60) as usize));
    let files = ["lock", "raw", "pack", "manifest"].map(Moment::Begun);
    let directories = ["incoming", "packs", "manifests"].map(Moment::Filled);
    for moment in steps.chain(files).chain(directories) {
        import_and_die(&packed, &root, &moment);
        let library = open(fixture.directory.path());
        let manifests = check_whole(&library, &root, &image);
        let swept = library.begin_sweep().unwrap().unwrap().finish(&HashSet::new()).unwrap();
        assert!(swept.manifests == manifests && swept.packs >= manifests, "{moment:?}: {swept:?}");
        match moment {
            Moment::Step(_) => assert_eq!((swept.imports, swept.packs), (1, 0), "{moment:?}"),
            Moment::Filled("packs" | "manifests") => assert_eq!(swept.packs, 1, "{moment:?}"),
            Moment::Filled(_) | Moment::Begun(_) => assert!(swept.imports + swept.packs > 0, "{moment:?}"),
        }
        let left = ["packs", "manifests", "incoming"].map(|directory| fixture.count(directory));
        assert_eq!(left, [0; 3], "{moment:?}: {swept:?}");
    }
    assert!(reassemble(&fixture.library, &fixture.import(&packed).unwrap().manifest) == image);
}

#[test]
fn an_import_that_is_stopped_leaves_nothing() {
    let fixture = Fixture::new();
    let packed = xz(&debian_disk(fixture.directory.path()));
    for step in [0, 1, 20, 40, 60] {
        let (stop, mut calls) = (AtomicBool::new(step == 0), 0);
        let mut progress = |_| {
            calls += 1;
            stop.store(calls >= step, Ordering::Relaxed);
        };
        let origin = (&*packed).into();
        let error = fixture.library.import(&origin, &Terms::default(), &mut progress, &stop).unwrap_err();
        assert!(matches!(error, ImportError::Stopped { .. }), "{error}");
        assert_eq!(calls, step, "the import went on");
        assert_eq!(["packs", "manifests", "incoming"].map(|name| fixture.count(name)), [0; 3]);
    }
}

#[test]
fn an_image_is_safe_from_sweeps_until_it_is_recorded() {
    let fixture = Fixture::new();
    let imported = fixture.import(&debian_disk(fixture.directory.path())).unwrap();
    let other = open(fixture.directory.path());
    assert!(other.begin_sweep().unwrap().is_none());
    let name = imported.name();
    drop(imported);
    let kept = other.begin_sweep().unwrap().unwrap().finish(&[name].into()).unwrap();
    assert_eq!(kept, Swept::default());
    let removed = other.begin_sweep().unwrap().unwrap().finish(&HashSet::new()).unwrap();
    assert_eq!((removed.manifests, removed.packs), (1, 1));
    assert_eq!(fixture.library.manifest_bytes(name).unwrap(), None);
}

#[test]
fn sweeps_beside_imports_remove_what_is_not_recorded_and_nothing_else() {
    const IMPORTS: usize = 6;
    let fixture = Fixture::new();
    let image = debian_disk(fixture.directory.path());
    let bytes = fs::read(&image).unwrap();
    let recorded = Mutex::new(HashSet::new());
    let running = AtomicBool::new(true);
    let (mut sweeps, mut removed) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..IMPORTS {
                let mut bytes = bytes.clone();
                // Where every byte belongs to the image.
                bytes[35 << 20] ^= number as u8 + 1;
                let path = fixture.directory.path().join(format!("{number}.img"));
                fs::write(&path, &bytes).unwrap();
                let imported = fixture.import(&path).unwrap();
                // Every other image is forgotten, as by a coordinator that fails to write its row.
                if number % 2 == 0 {
                    recorded.lock().unwrap().insert(imported.name());
                }
            }
            running.store(false, Ordering::Relaxed);
        });
        let other = open(fixture.directory.path());
        while running.load(Ordering::Relaxed) {
            let Some(sweep) = other.begin_sweep().unwrap() else { continue };
            let keep = recorded.lock().unwrap().clone();
            let swept = sweep.finish(&keep).unwrap();
            assert_eq!(swept.imports, 0);
            sweeps += 1;
            removed += swept.manifests;
        }
        let keep = recorded.lock().unwrap().clone();
        removed += other.begin_sweep().unwrap().unwrap().finish(&keep).unwrap().manifests;
    });
    let recorded = recorded.into_inner().unwrap();
    assert_eq!((recorded.len(), removed), (IMPORTS / 2, IMPORTS / 2));
    assert!(sweeps >= IMPORTS, "only {sweeps} sweeps");
    for name in recorded {
        let manifest = fixture.library.manifest(name).unwrap().unwrap();
        assert_eq!(Hash::of(&reassemble(&fixture.library, &manifest)), manifest.whole);
    }
    assert_eq!(["packs", "manifests", "incoming"].map(|name| fixture.count(name)), [3, 3, 0]);
}
