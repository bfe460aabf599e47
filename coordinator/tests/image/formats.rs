//! Every wrapping that an image may come in, made by the tools that people use; and what is refused of each.

use crate::disk::{Random, debian_disk, program, run, xz};
use crate::{Fixture, refused};
use piseduce_coordinator::image::ImportError;
use std::fs;
use std::path::{Path, PathBuf};

/// The wrapped images of one test, in one directory beside the image itself.
struct Shop {
    fixture: Fixture,
    image: PathBuf,
}

impl Shop {
    fn new() -> Self {
        let fixture = Fixture::new();
        let image = debian_disk(fixture.directory.path());
        Shop { fixture, image }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.fixture.directory.path().join(name)
    }

    /// Runs a tool in the directory of the image; it must succeed.
    #[track_caller]
    fn tool(&self, tool: &str, arguments: &[&str]) {
        let mut command = program(tool);
        let result = command.args(arguments).current_dir(self.fixture.directory.path()).output();
        let result = result.unwrap_or_else(|error| panic!("{tool} cannot be started: {error}"));
        assert!(result.status.success(), "{tool}: {}", String::from_utf8_lossy(&result.stderr));
    }

    /// The standard output of a tool, as a file.
    fn made(&self, name: &str, package: &str, tool: &str, arguments: &[&str]) -> PathBuf {
        let path = self.place(name);
        fs::write(&path, run(package, tool, arguments)).unwrap();
        path
    }

    fn compressed(&self, tool: &str, of: &Path) -> PathBuf {
        let name = of.file_stem().unwrap().to_str().unwrap();
        self.made(&format!("{name}-{tool}.img"), tool, tool, &["-c", of.to_str().unwrap()])
    }

    /// Imports every wrapping, which must all give the same image as the bare one.
    #[track_caller]
    fn all_the_same(&self, wrapped: &[PathBuf]) {
        let bare = self.fixture.import(&self.image).unwrap().name();
        for path in wrapped {
            let imported =
                self.fixture.import(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(imported.name(), bare, "{}", path.display());
        }
        assert_eq!(self.fixture.count("incoming"), 0);
    }

    #[track_caller]
    fn refused(&self, bytes: &[u8], words: &str) -> ImportError {
        let path = self.place("refused");
        fs::write(&path, bytes).unwrap();
        refused(&self.fixture, &path, words)
    }
}

#[test]
fn gzip_and_zstd_are_unpacked_with_all_their_parts() {
    let shop = Shop::new();
    let (gzip, zstd) = (shop.compressed("gzip", &shop.image), shop.compressed("zstd", &shop.image));
    let bytes = fs::read(&shop.image).unwrap();
    let join = |name: &str, tool: &str, between: &[u8]| {
        let mut joined = between.to_vec();
        for part in bytes.chunks(15 << 20) {
            fs::write(shop.place("part"), part).unwrap();
            joined.extend(fs::read(shop.compressed(tool, &shop.place("part"))).unwrap());
            joined.extend(between);
        }
        fs::write(shop.place(name), joined).unwrap();
        shop.place(name)
    };
    let members = join("members.gz", "gzip", b"");
    // A frame that is to be skipped: its mark, its length, its content.
    let frames = join("frames.zst", "zstd", b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc");
    let mut padded = fs::read(&gzip).unwrap();
    padded.extend([0; 777]);
    fs::write(shop.place("padded.gz"), padded).unwrap();
    shop.all_the_same(&[gzip, zstd, members, frames, shop.place("padded.gz")]);
}

#[test]
fn zip_and_tar_archives_are_searched_for_the_image() {
    let shop = Shop::new();
    fs::write(shop.place("README.txt"), "the image is beside this").unwrap();
    fs::write(shop.place("debian.img.sha256"), "0".repeat(64)).unwrap();
    fs::create_dir(shop.place("deep")).unwrap();
    fs::hard_link(&shop.image, shop.place("deep/image")).unwrap();
    shop.tool("zip", &["-q", "deflated.zip", "README.txt", "debian.img", "debian.img.sha256"]);
    shop.tool("zip", &["-q", "-0", "-r", "stored.zip", "deep"]);
    // Streamed, with lengths behind the files and not before them.
    shop.tool("sh", &["-c", "zip -q - debian.img | cat > streamed.zip"]);
    let files = ["README.txt", "debian.img"];
    shop.tool("tar", &[&["-czf", "original.tar.gz"], &files[..1], &files[1..]].concat());
    shop.tool("tar", &["-cf", "plain.tar", "deep", "README.txt"]);
    shop.tool("tar", &["--format=posix", "-cJf", "posix.tar.xz", "deep"]);
    shop.tool("tar", &["--format=ustar", "--zstd", "-cf", "ustar.tar.zst", "debian.img"]);
    shop.tool("tar", &["-czf", "absolute.tgz", "-P", shop.image.to_str().unwrap()]);
    let long = "long/".repeat(40) + "debian.img";
    shop.tool("tar", &["-czf", "long.tgz", &format!("--transform=s,^,{},", &long[..200]), "debian.img"]);
    let made = "deflated.zip stored.zip streamed.zip original.tar.gz plain.tar posix.tar.xz ustar.tar.zst \
         absolute.tgz long.tgz";
    shop.all_the_same(&made.split_whitespace().map(|name| shop.place(name)).collect::<Vec<_>>());
}

#[test]
fn holes_of_an_image_in_a_tar_archive_come_out_as_zeros() {
    let shop = Shop::new();
    shop.tool("fallocate", &["--dig-holes", "debian.img"]);
    shop.tool("tar", &["-S", "-czf", "sparse.tgz", "debian.img"]);
    shop.all_the_same(&[shop.place("sparse.tgz")]);
    shop.tool("tar", &["--format=posix", "-S", "-czf", "posix.tgz", "debian.img"]);
    let posix = fs::read(shop.place("posix.tgz")).unwrap();
    let fresh = Shop::new();
    fresh.refused(&posix, "is a tar archive with a file that is stored without its holes; unpack it first");
}

#[test]
fn an_archive_without_one_image_is_refused_with_what_is_in_it() {
    let shop = Shop::new();
    fs::write(shop.place("a.txt"), "text").unwrap();
    fs::copy(&shop.image, shop.place("other.img")).unwrap();
    shop.compressed("gzip", &shop.image);
    let pack = |zip: &[&str], tar: &[&str]| {
        let _ = fs::remove_file(shop.place("a.zip"));
        shop.tool("zip", &[&["-q", "a.zip"], zip].concat());
        shop.tool("tar", &[&["-czf", "a.tgz"], tar].concat());
        ["zip", "tgz"].map(|kind| fs::read(shop.place("a").with_extension(kind)).unwrap())
    };
    let check = |files: &[&str], words: &str| {
        for (bytes, archive) in pack(files, files).iter().zip(["zip", "tar"]) {
            shop.refused(bytes, &format!("is a {archive} archive {words}"));
        }
    };
    let several = "with several images, debian.img and other.img; unpack it first and import one of them";
    check(&["a.txt", "debian.img", "other.img"], several);
    let nested = "without the image of a disk: debian-gzip.img in it is a gzip file; unpack the archive and import \
         that file";
    check(&["debian-gzip.img", "a.txt"], nested);
    check(&["a.txt"], "without the image of a disk: a.txt in it is something else");
    fs::create_dir(shop.place("empty")).unwrap();
    check(&["empty"], "without any file");
    fs::write(shop.place("nothing"), "").unwrap();
    check(&["nothing"], "without the image of a disk: nothing in it is empty");
    shop.tool("zip", &["-q", "-P", "secret", "secret.zip", "debian.img"]);
    let secret = fs::read(shop.place("secret.zip")).unwrap();
    shop.refused(&secret, "is a zip archive with an encrypted file; unpack it first");
    shop.tool("zip", &["-q", "-Z", "bzip2", "bzip2.zip", "debian.img"]);
    let bzip2 = fs::read(shop.place("bzip2.zip")).unwrap();
    shop.refused(&bzip2, "is a zip archive with a compression that is not supported");
}

#[test]
fn what_is_wrapped_twice_is_refused_with_both_names() {
    let shop = Shop::new();
    let gzip = shop.compressed("gzip", &shop.image);
    let twice = fs::read(xz(&gzip)).unwrap();
    shop.refused(&twice, "is a gzip file inside an xz file; unpack the outer one first");
    shop.tool("zip", &["-q", "a.zip", "debian.img"]);
    let twice = fs::read(shop.compressed("zstd", &shop.place("a.zip"))).unwrap();
    shop.refused(&twice, "is a zip archive inside a zstd file; unpack the outer one first");
}

#[test]
fn files_that_are_cut_off_or_damaged_are_refused_whatever_packed_them() {
    let shop = Shop::new();
    shop.tool("tar", &["-czf", "a.tgz", "debian.img"]);
    shop.tool("tar", &["-cf", "a.tar", "debian.img"]);
    shop.tool("zip", &["-q", "a.zip", "debian.img"]);
    let packed = ["gzip", "zstd"].map(|tool| shop.compressed(tool, &shop.image));
    let archives = ["a.tgz", "a.tar", "a.zip"].map(|name| shop.place(name));
    for path in packed.iter().chain(&archives) {
        let (bytes, name) = (fs::read(path).unwrap(), path.display());
        let length = bytes.len();
        for cut in [300, length / 3, length / 2, length - 20_000] {
            let error = shop.refused(&bytes[..cut], "download it again");
            let known = matches!(error, ImportError::EndsEarly { .. } | ImportError::Damaged { .. });
            assert!(known, "{name} at {cut}: {error}");
        }
        if path == &archives[1] {
            // Nothing in it is checked by a sum; the image in it still is the image.
            continue;
        }
        let mut random = Random(length as u64);
        for _ in 0..20 {
            let mut damaged = bytes.clone();
            let at = 200 + random.below(length as u64 - 400) as usize;
            damaged[at] ^= 1 << random.below(8);
            let path = shop.place("damaged");
            fs::write(&path, damaged).unwrap();
            match shop.fixture.import(&path) {
                Err(ImportError::Damaged { .. } | ImportError::EndsEarly { .. }) => {}
                other => panic!("{name}, byte {at}: {other:?}"),
            }
        }
    }
    for path in &packed {
        let trailing = [fs::read(path).unwrap().as_slice(), b"and something behind it"].concat();
        shop.refused(&trailing, "is damaged near byte");
    }
}

#[test]
fn a_zstd_file_that_needs_gigabytes_of_memory_is_refused() {
    let shop = Shop::new();
    let random = Random(3).bytes(200 << 20);
    fs::write(shop.place("long"), [&random[..], &random[..1000]].concat()).unwrap();
    let long = shop.place("long");
    let packed = run("zstd", "zstd", &["-c", "-1", "--long=30", "--single-thread", long.to_str().unwrap()]);
    let words = "needs more than 134217728 bytes of memory to unpack; unpack it elsewhere";
    assert!(matches!(shop.refused(&packed, words), ImportError::Memory { .. }));
}
