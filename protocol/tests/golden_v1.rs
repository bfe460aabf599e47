//! The bytes of protocol version 1. If a test here fails, do not change the test: agents and cards in
//! the field hold these bytes. Append variants and fields, or make a version 2 beside this file.

use piseduce_protocol::boot_files::proof;
use piseduce_protocol::bundle::{Bundle, HostKey};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::command::{Command, Order, PartSize, Verify, Wipe, Work};
use piseduce_protocol::enrolment::BoardInventory;
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Seq, Serial, Ticket};
use piseduce_protocol::manifest::{Chunk, ChunkKind, FileSystem, Manifest, Partition};
use piseduce_protocol::path::boot_file;
use piseduce_protocol::report::{
    Answer, Beat, CardInfo, Hello, KernelId, Log, LogLine, Outcome, Progress, Report, Standing, Written,
};
use piseduce_protocol::seal::{SiteKey, Window, open, seal};
use piseduce_protocol::state::State;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

const TICKET: Ticket = Ticket { deployment: DeploymentId(300), run: Run(2), seq: Seq(17) };

/// Seals `body`, compares the bytes with `golden`, and opens `golden` again.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &T, golden: &str) {
    let keys = SiteKey([1; 32]).boot_token(Serial(0x1000_0000_dead_beef), BootNumber(5)).keys();
    let sealed = seal(&keys.message, "topic", BootNumber(5), 0x1_0000_0002, body).expect("the body is short");
    let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden, "{body:?}");
    let opened = open::<T>(&keys.message, "topic", BootNumber(5), &mut Window::default(), &sealed);
    assert_eq!(&opened.expect("the golden bytes open").1, body);
}

fn command(order: Order) -> Command {
    Command { ticket: TICKET, unix_ms: 1_795_447_800_000, order }
}

fn answer(outcome: Outcome) -> Report {
    Report::Answer(Answer { ticket: TICKET, outcome })
}

#[test]
fn commands() {
    let work = Work {
        state: State::EnvCopy,
        attempt: 1,
        manifest: Hash([0xaa; 32]),
        bundle: Hash([0xbb; 32]),
        part_size: PartSize::Bytes(8 << 30),
        verify: Verify::Full,
        recopy_boot: true,
    };
    check(
        &command(Order::Perform(work)),
        "01050000000200000001000000ac020211c0819dc8a0340008656e765f636f707901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0238470466756c6c011e213f57799b51f1719cc4feb4ad59f2",
    );
    check(
        &command(Order::Stop),
        "01050000000200000001000000ac020211c0819dc8a034019113e3aa487326fa01dcb32f671aca98",
    );
    check(
        &command(Order::Reboot),
        "01050000000200000001000000ac020211c0819dc8a0340267b9626ded51583545102d129b980c28",
    );
    check(
        &command(Order::Wipe(Wipe::Discard)),
        "01050000000200000001000000ac020211c0819dc8a034030764697363617264dfd15ca419c93aae18901e90b463b529",
    );
}

#[test]
fn reports() {
    let hello = Hello {
        serial: Serial(0x1000_0000_dead_beef),
        mac: "dc:a6:32:01:02:03".into(),
        model: "Raspberry Pi 4 Model B Rev 1.4".into(),
        kernel: KernelId("b0b0".into()),
        protocol: (1, 1),
        agent: "0.1.0".into(),
        card: Some(CardInfo { device: "/dev/mmcblk0".into(), bytes: 32 << 30, cid: Some("0353".into()) }),
        bootloader: vec![("BOOT_ORDER".into(), "0xf12".into())],
        doing: Some(TICKET),
    };
    check(
        &Report::Hello(hello),
        "0105000000020000000100000000effdb6f58d808080101164633a61363a33323a30313a30323a30331e5261737062657272792050692034204d6f64656c20422052657620312e340462306230010105302e312e30010c2f6465762f6d6d63626c6b30808080808001010430333533010a424f4f545f4f5244455205307866313201ac020211a01c380d1545be2130b9404d414c2d94",
    );
    check(
        &answer(Outcome::Started),
        "0105000000020000000100000001ac02021100a307acd48e0f98ba708f794a0ae667a3",
    );
    let progress = Progress { done: 1 << 20, total: 1 << 30, rate: 40_000_000, seconds_left: Some(26) };
    check(
        &answer(Outcome::Progress(progress)),
        "0105000000020000000100000001ac02021101808040808080800480b48913011a2fcb82790a9244ec3b7a3687ce88a6c5",
    );
    check(
        &answer(Outcome::Done("ok".into())),
        "0105000000020000000100000001ac02021102026f6b94f99bf26e2969a249d28d393218537e",
    );
    check(
        &answer(Outcome::Failed(Cause::new(CauseKind::HashMismatch, "chunk 7"))),
        "0105000000020000000100000001ac020211030d686173685f6d69736d61746368076368756e6b2037d86531abbdd28544b039ac457998f8ad",
    );
    check(
        &answer(Outcome::Refused("busy".into())),
        "0105000000020000000100000001ac02021104046275737980a686a71f60989681b1e9213b4d3c79",
    );
}

#[test]
fn a_log() {
    let line = LogLine { at_us: 1_500_000, text: "work begins".into() };
    check(
        &Report::Log(Log { now_us: 2_000_000, lines: vec![line] }),
        "010500000002000000010000000280897a01e0c65b0b776f726b20626567696e734660da8cd3fd8dfa642755665421dab5",
    );
}

#[test]
fn what_was_written() {
    let written = Written { ticket: TICKET, bytes: 2_200_000_000, busy_ms: 55_000 };
    check(
        &Report::Written(written),
        "0105000000020000000100000003ac02021180ac859908d8ad0325581c341d0d3a2ffd15d5112733b390",
    );
}

#[test]
fn beats() {
    let beat = Beat {
        last: Some((TICKET, Standing::Working)),
        progress: None,
        card_busy: true,
        epoch: 9,
        resident_kib: 20_000,
    };
    check(&beat, "0105000000020000000100000001ac02021100000109a09c01a77d8fbd15922aaaca5512250e997697");
}

#[test]
fn a_manifest() {
    let manifest = Manifest {
        image_bytes: 1_049_088,
        whole: Hash([1; 32]),
        disk_id: 0x1234_abcd,
        partitions: vec![Partition {
            number: 1,
            start: 512,
            bytes: 1_048_576,
            file_system: FileSystem::Fat,
            label: Some("bootfs".into()),
        }],
        boot: Some(1),
        root: None,
        family: "opaque".into(),
        family_evidence: "no root".into(),
        architecture: Some("aarch64".into()),
        packs: vec![Hash([2; 32])],
        chunks: vec![
            Chunk {
                kind: ChunkKind::Data,
                hash: Hash([3; 32]),
                pack: 0,
                offset: 4096,
                stored: 300,
                mask: Some(vec![1]),
            },
            Chunk { kind: ChunkKind::Zero, hash: Hash([4; 32]), pack: 0, offset: 0, stored: 0, mask: None },
        ],
    };
    let hash = Hash::of(&manifest.encode());
    assert_eq!(hash.to_string(), "6d06c44cb2233f1da02441038eb671e490e701b976e37b6ffbfe95028eb88117");
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
}

#[test]
fn a_bundle() {
    let bundle = Bundle {
        host_name: "pi-1".into(),
        password_hash: Some("$6$salt$hash".into()),
        authorized_keys: vec!["ssh-ed25519 AAAA user".into()],
        host_keys: vec![HostKey {
            algorithm: "ed25519".into(),
            private: "PRIV".into(),
            public: "PUB".into(),
        }],
        script: Some(b"true".to_vec()),
        rerun_script: true,
        script_seconds: 1800,
        first_boot_url: "http://10.0.0.1:8070/first-boot/v1/300/2".into(),
        first_boot_token: "token".into(),
        booted_token: "boots".into(),
    };
    assert_eq!(
        Bundle::name_of(&bundle.lock(&[9; 32])).to_string(),
        "052c4b7fc151f6a6867faddec0dd2d787bae3622e25a8a9ae78e6fdad71bfc93"
    );
}

#[test]
fn an_inventory() {
    let inventory = BoardInventory {
        serial: Serial(0x1234_5678_dead_beef),
        mac: "2c:cf:67:00:00:01".into(),
        model: "Raspberry Pi 5 Model B Rev 1.0".into(),
        memory_kib: 8_245_760,
        card: Some(CardInfo { device: "/dev/mmcblk0".into(), bytes: 31 << 30, cid: Some("03".into()) }),
        bootloader: vec![("BOOT_ORDER".into(), "0xf12".into())],
    };
    let hex: String = inventory.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "effdb6f58dcf959a121132633a63663a36373a30303a30303a30311e5261737062657272792050692035204d6f64656c20422052657620312e3080a4f703010c2f6465762f6d6d63626c6b30808080807c01023033010a424f4f545f4f52444552053078663132"
    );
    assert_eq!(BoardInventory::decode(&inventory.encode()), Some(inventory));
    assert_eq!(BoardInventory::decode(b"x"), None);
}

#[test]
fn the_proof_of_an_upload() {
    let key = SiteKey([1; 32]).boot_token(Serial(0x1000_0000_dead_beef), BootNumber(5)).keys().upload;
    let path = boot_file(DeploymentId(300), Run(2), "start.elf");
    let proof = proof(&key, &path, Hash([0xaa; 32]), 2_979_264);
    assert_eq!(proof.to_string(), "1e392bacf6c1deb26d44c3283a33fcb402883d27e2cb6e9fe841e3e628699626");
}
