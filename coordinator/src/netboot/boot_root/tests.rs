//! Versions, and which node gets which.

use super::*;

fn add(roots: &BootRoots, version: &str) {
    let files = BTreeMap::from([("kernel8.img".to_owned(), Content { bytes: 3, blake3: "00".into() })]);
    let description = Description {
        schema: 1,
        version: version.into(),
        kind: Kind::Ram,
        command_line: "panic=10".into(),
        packages: BTreeMap::new(),
        agent: "0.1.0".into(),
        files,
        exported: BTreeMap::new(),
    };
    let directory = roots.directory().join(version);
    fs::create_dir_all(directory.join(FILES)).unwrap();
    fs::write(directory.join(DESCRIPTION), serde_json::to_vec(&description).unwrap()).unwrap();
}

#[test]
fn versions_are_listed_chosen_and_read() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = BootRoots::at(scratch.path().join("boot-roots"), None);
    assert_eq!((roots.versions().unwrap(), roots.current()), (vec![], None));
    add(&roots, "b");
    add(&roots, "a");
    fs::create_dir(roots.directory().join("unfinished")).unwrap();
    roots.choose("b", &Whom::All).unwrap();
    roots.choose("a", &Whom::All).unwrap();
    assert_eq!(roots.versions().unwrap(), ["a", "b"]);
    assert_eq!(roots.current().as_deref(), Some("a"));
    let root = roots.read("a").unwrap();
    assert!(root.file("kernel8.img").unwrap().ends_with("a/files/kernel8.img"));
    assert_eq!(root.file("../../site.key"), None);
    let error = roots.choose("c", &Whom::All).unwrap_err().to_string();
    assert_eq!(error, "there is no boot root `c`; there are a, b");
}

#[test]
fn a_node_has_its_own_before_its_models_before_the_current_one() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = BootRoots::at(scratch.path().into(), None);
    ["a", "b", "c", "d"].iter().for_each(|version| add(&roots, version));
    let (node, model) = (Whom::Node("pi-1".into()), |text: &str| Whom::Model(text.into()));
    roots.choose("a", &Whom::All).unwrap();
    roots.choose("b", &model("Raspberry Pi 5")).unwrap();
    roots.choose("c", &model("Raspberry Pi 5 Model B")).unwrap();
    roots.choose("d", &node).unwrap();
    let chosen = |name: &str, model: &str| roots.chosen_for(name, model).unwrap();
    assert_eq!(chosen("pi-1", "Raspberry Pi 5 Model B Rev 1.0"), "d");
    assert_eq!(chosen("pi-2", "Raspberry Pi 5 Model B Rev 1.0"), "c");
    assert_eq!(chosen("pi-3", "Raspberry Pi 500"), "b");
    assert_eq!(chosen("pi-4", "Raspberry Pi 4 Model B"), "a");
    assert_eq!(roots.exceptions().len(), 3);
    assert_eq!(roots.versions().unwrap(), ["a", "b", "c", "d"]);
    assert!(roots.choose_no_other(&node).unwrap() && !roots.choose_no_other(&node).unwrap());
    assert_eq!(chosen("pi-1", "Raspberry Pi 4 Model B"), "a");
    for name in ["", "../x", ".", "a/b"] {
        assert!(roots.choose("a", &Whom::Node(name.into())).is_err(), "{name}");
    }
}

#[test]
fn a_node_mounts_what_the_settings_say_under_the_name_of_its_version() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = BootRoots::at(scratch.path().into(), Some("/srv/piseduce".into()));
    add(&roots, "a");
    assert_eq!(roots.read("a").unwrap().words("10.0.0.1"), "panic=10");
    let path = scratch.path().join("a").join(DESCRIPTION);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"ram\"", "\"nfs\"")).unwrap();
    let words = roots.read("a").unwrap().words("10.0.0.1");
    assert_eq!(words, "panic=10 nfsroot=10.0.0.1:/srv/piseduce/a,vers=4.2,proto=tcp,timeo=50");
    let error = BootRoots::at(scratch.path().into(), None).read("a").unwrap_err().to_string();
    assert!(error.contains("set netboot.nfs.directory"), "{error}");
}

#[test]
fn a_description_that_is_none_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = BootRoots::at(scratch.path().into(), None);
    add(&roots, "a");
    fs::write(scratch.path().join("a").join(DESCRIPTION), "{").unwrap();
    assert!(roots.read("a").unwrap_err().to_string().contains("a/boot-root.json"));
}
