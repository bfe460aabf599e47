//! GPTs against the tools that everybody has: what sfdisk and sgdisk make is read as they say it is, and
//! what comes out here they find nothing wrong with.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use piseduce_protocol::table::{Entry, ReadError, SECTOR_BYTES, Table, TableError};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;

/// Three partitions, the last of which lies not last in the table.
const SCRIPT: &str = "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\n\
    1 : start=2048, size=16384, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name=\"boot\", \
        uuid=AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE\n\
    3 : start=34816, size=20480, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"root\", \
        uuid=01234567-89AB-CDEF-0123-456789ABCDEF, attrs=\"GUID:63\"\n\
    2 : start=18432, size=8192, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n";

struct Disk {
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    /// A disk with the partitions of `script`, which is sfdisk's.
    fn new(bytes: u64, script: &str) -> Self {
        let disk = Self::blank(bytes);
        disk.tool("sfdisk", "fdisk", &["--quiet"], script);
        disk
    }

    fn blank(bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        Disk { file, _directory: directory }
    }

    /// Runs `program` on the disk; it must find nothing to complain about.
    fn tool(&self, program: &str, package: &str, arguments: &[&str], input: &str) -> String {
        let path = ["/usr/sbin", "/sbin"].iter().map(|directory| Path::new(directory).join(program));
        let path = path.into_iter().find(|path| path.exists());
        let path = path.unwrap_or_else(|| panic!("this test needs {program}: install the package {package}"));
        #[expect(clippy::disallowed_methods, reason = "the tools are the judges here")]
        let mut command = Command::new(path);
        command.args(arguments).arg(&self.file).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        said
    }

    fn sectors(&self) -> u64 {
        self.file.metadata().unwrap().len() / SECTOR_BYTES
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(&self.file).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        File::options().write(true).open(&self.file).unwrap().write_all_at(bytes, at).unwrap();
    }

    fn table(&self) -> Result<Table, TableError> {
        let file = File::open(&self.file).unwrap();
        Table::read(self.sectors(), |at, into| file.read_exact_at(into, at)).map_err(|error| match error {
            ReadError::Table(error) => error,
            ReadError::Disk(error) => panic!("the table reaches beyond the disk: {error}"),
        })
    }

    fn put(&self, table: &Table) {
        table.areas().iter().for_each(|area| self.write(area.start * SECTOR_BYTES, &area.bytes));
    }

    /// Asserts that both tools find the table sound.
    fn assert_sound(&self) {
        let verified = self.tool("sfdisk", "fdisk", &["--verify"], "");
        assert!(verified.contains("No errors detected.") && !verified.contains("mismatch"), "{verified}");
        let verified = self.tool("sgdisk", "gdisk", &["--verify"], "");
        assert!(verified.contains("No problems found."), "{verified}");
    }

    /// What sfdisk says about the partitions, without the disk's own lines.
    fn dump(&self) -> Vec<String> {
        let dump = self.tool("sfdisk", "fdisk", &["--dump"], "");
        let partitions = dump.lines().filter_map(|line| line.split_once(" : ").map(|(_, rest)| rest));
        partitions.map(|rest| rest.replace(' ', "")).collect()
    }
}

fn entry(number: u8, start: u64, sectors: u64) -> Entry {
    Entry { number, start, sectors }
}

#[test]
fn a_table_of_sfdisk_is_read_as_it_was_ordered_and_comes_out_as_it_went_in() {
    let disk = Disk::new(64 * MIB, SCRIPT);
    let mut table = disk.table().unwrap();
    let expected = [entry(1, 2048, 16384), entry(2, 18432, 8192), entry(3, 34816, 20480)];
    assert_eq!(table.entries(), expected);
    assert_eq!(table.part_uuid(3).as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
    assert_eq!((table.part_uuid(4), table.disk_id()), (None, 0));
    table.fit(disk.sectors()).unwrap();
    for area in table.areas() {
        let found = disk.read(area.start * SECTOR_BYTES, area.bytes.len());
        assert!(found == area.bytes, "the area at sector {} differs", area.start);
    }
}

#[test]
fn on_a_larger_disk_the_backup_moves_and_the_root_grows_into_all_of_it() {
    let image = Disk::new(64 * MIB, SCRIPT);
    let mut table = image.table().unwrap();
    for card_bytes in [64 * MIB, 64 * MIB + 512, 200 * MIB, 3 << 40] {
        let card = Disk::blank(card_bytes);
        table.fit(card.sectors()).unwrap();
        card.put(&table);
        card.assert_sound();
        assert_eq!(card.dump(), image.dump(), "nothing has grown yet");
        let mut grown = table.clone();
        let sectors = grown.usable_end() - 34816;
        grown.grow(3, sectors).unwrap();
        card.put(&grown);
        card.assert_sound();
        let expected = image.dump().join("\n").replace("size=20480", &format!("size={sectors}"));
        assert_eq!(card.dump().join("\n"), expected, "start, type, ids, name and attributes stay");
        assert_eq!(card.table(), Ok(grown.clone()));
        assert_eq!(grown.grow(3, sectors + 1), Err(TableError::Entry(3)));
    }
}

#[test]
fn a_backup_that_is_used_alone_is_sound() {
    let card = Disk::blank(100 * MIB);
    let mut table = Disk::new(64 * MIB, SCRIPT).table().unwrap();
    table.fit(card.sectors()).unwrap();
    card.put(&table);
    card.write(SECTOR_BYTES, &[0; 33 * 512]);
    let dump = card.tool("sgdisk", "gdisk", &["--print"], "");
    assert!(dump.contains("invalid main GPT header, but valid backup"), "{dump}");
    assert!(dump.lines().any(|line| line.contains("34816") && line.contains("root")), "{dump}");
}

#[test]
fn tables_elsewhere_and_of_other_sizes_are_read_and_rendered() {
    // Entries at sector 512 instead of 2, and 56 of them instead of 128.
    let disk = Disk::new(64 * MIB, SCRIPT);
    disk.tool("sgdisk", "gdisk", &["--move-main-table=512"], "");
    disk.tool("sgdisk", "gdisk", &["--resize-table=56"], "");
    let mut table = disk.table().unwrap();
    assert_eq!(table.entries().len(), 3);
    table.fit(1 << 20).unwrap();
    table.grow(3, 100_000).unwrap();
    let card = Disk::blank((1 << 20) * SECTOR_BYTES);
    card.put(&table);
    card.assert_sound();
    assert_eq!(card.table(), Ok(table));
}

#[test]
fn a_disk_without_room_for_partitions_and_backup_is_refused() {
    let mut table = Disk::new(64 * MIB, SCRIPT).table().unwrap();
    let needed = 34816 + 20480 + 33;
    let error = TableError::DiskTooSmall { sectors: needed - 1, needed };
    assert_eq!(table.fit(needed - 1), Err(error));
    table.fit(needed).unwrap();
    let card = Disk::blank(needed * SECTOR_BYTES);
    card.put(&table);
    card.assert_sound();
}

#[test]
fn an_image_that_lost_its_backup_is_read_and_gets_a_new_one() {
    let disk = Disk::new(64 * MIB, SCRIPT);
    let cut = (34816 + 20480 + 100) * SECTOR_BYTES;
    File::options().write(true).open(&disk.file).unwrap().set_len(cut).unwrap();
    let mut table = disk.table().unwrap();
    table.fit(disk.sectors()).unwrap();
    disk.put(&table);
    disk.assert_sound();
}

#[test]
fn any_wrong_byte_of_header_or_entries_is_found() {
    let disk = Disk::new(64 * MIB, SCRIPT);
    let sound = disk.table().unwrap();
    for at in (512..512 + 92).chain([1024, 1024 + 127, 1024 + 128 * 128 - 1]) {
        let old = disk.read(at, 1)[0];
        disk.write(at, &[old ^ 0x10]);
        let found = disk.table();
        assert!(matches!(found, Err(TableError::Gpt(_))), "byte {at}: {found:?}");
        disk.write(at, &[old]);
    }
    assert_eq!(disk.table(), Ok(sound));
}

#[test]
fn hybrids_are_refused_and_so_are_headers_that_are_sound_but_absurd() {
    let hybrid = Disk::new(64 * MIB, SCRIPT);
    hybrid.tool("sgdisk", "gdisk", &["--hybrid=1"], "");
    assert_eq!(hybrid.table(), Err(TableError::Hybrid));
    let many = Disk::blank(64 * MIB);
    many.tool("sgdisk", "gdisk", &["--clear", "--resize-table=256", "--new=128:2048:4095"], "");
    assert_eq!(many.table().map(|table| table.entries()), Ok(vec![entry(128, 2048, 2048)]));
    many.tool("sgdisk", "gdisk", &["--new=129:4096:6143"], "");
    assert_eq!(many.table(), Err(TableError::Number(129)));
    // The field, what it becomes, and what is wrong with that.
    let absurd: [(usize, u64, &str); 7] = [
        (24, 2, "header stands in another sector than it says"),
        (32, 100, "backup lies among the usable sectors"),
        (48, u64::MAX / 2, "usable sectors lie beyond every disk"),
        (40, u64::MAX, "usable sectors end before they begin"),
        (72, 1, "entries lie where they cannot be"),
        (72, u64::MAX, "entries lie where they cannot be"),
        (80, 0, "entries have an impossible number or length"),
    ];
    for (field, value, why) in absurd {
        assert_eq!(with_field(field, value), Err(TableError::Gpt(why)), "field {field} is {value}");
    }
    assert_eq!(with_field(40, 2049), Err(TableError::Entry(1)), "it begins before the usable sectors");
    assert_eq!(with_field(48, 40_000), Err(TableError::Entry(3)), "it ends behind them");
}

/// A table with one field of its header changed, and a right checksum.
fn with_field(field: usize, value: u64) -> Result<Table, TableError> {
    let disk = Disk::new(64 * MIB, SCRIPT);
    let mut header = disk.read(SECTOR_BYTES, 512);
    // The number of entries and their length are neighbours of 4 bytes; all others have 8.
    let length = if field == 80 { 4 } else { 8 };
    header[field..field + length].copy_from_slice(&value.to_le_bytes()[..length]);
    header[16..20].fill(0);
    let checksum = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    disk.write(SECTOR_BYTES, &header);
    disk.table()
}
