//! The files of a mounted root, which somebody else made: every path is resolved inside it.
//!
//! A symbolic link in the image, relative or absolute, leads to where it would lead on the booted node and
//! never into the boot root (openat2 with RESOLVE_IN_ROOT). Files are replaced whole: written beside,
//! flushed, renamed, and the directory flushed. It does not know what the files mean: see `os/`.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat,
    fsync, futimens, mkdirat, open, openat, openat2, readlinkat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Files that are read are texts; a larger one is refused.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Tries to open a path while the kernel cannot tell where it leads.
const OPEN_TRIES: u32 = 1000;

/// Symbolic links among the parents of a path that are followed, as many as the kernel follows.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// A mounted root.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// Who owns a file and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner.
    pub user: u32,
    /// The group.
    pub group: u32,
    /// The permission bits, such as 0o644.
    pub mode: u32,
}

impl Ownership {
    /// root's, with these permission bits.
    pub const fn root(mode: u32) -> Self {
        Ownership { user: 0, group: 0, mode }
    }
}

/// A file of the mounted root could not be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {path} of the environment")]
pub struct TreeError {
    /// What was tried.
    pub action: &'static str,
    /// The path inside the root.
    pub path: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Tree {
    /// The tree below the directory `root`.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn open(root: &Path) -> Result<Self, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(root, flags, Mode::empty()).map_err(failed("open", "/"))?;
        Ok(Tree { root })
    }

    /// Whether `path` leads to something.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn exists(&self, path: &str) -> Result<bool, TreeError> {
        match self.open_inside(path, OFlags::PATH) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(errno) => Err(failed("look at", path)(errno)),
        }
    }

    /// The content of the file at `path`; none when there is nothing.
    ///
    /// # Errors
    /// [`TreeError`], also when it is no regular file or larger than 4 MiB.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        let failed = |source: io::Error| TreeError { action: "read", path: path.into(), source };
        // A pipe or device in the image must not hold the agent up.
        let file = match self.open_inside(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        let found = fstat(&file).map_err(|errno| failed(errno.into()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let mut content = Vec::new();
        File::from(file).take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(failed)?;
        match content.len() as u64 > FILE_BYTES_MAX {
            true => Err(failed(io::Error::other("it is larger than 4 MiB"))),
            false => Ok(Some(content)),
        }
    }

    /// The content of the file at `path` as text, with what is not UTF-8 replaced; none when there is nothing.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read_text(&self, path: &str) -> Result<Option<String>, TreeError> {
        Ok(self.read(path)?.map(|content| String::from_utf8_lossy(&content).into_owned()))
    }

    /// Replaces the file at `path`, keeping its owner and mode; a new one gets `ownership`.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn replace(&self, path: &str, content: &[u8], ownership: Ownership) -> Result<(), TreeError> {
        let (directory, name) = self.parent(path, "write")?;
        let kept = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let kept = kept.filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile);
        let ownership = kept.map_or(ownership, |found| Ownership {
            user: found.st_uid,
            group: found.st_gid,
            mode: found.st_mode & 0o7777,
        });
        write_beside(&directory, name, content, ownership).map_err(failed("write", path))
    }

    /// Writes the file at `path` with exactly this content and ownership, whatever was there.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn write(&self, path: &str, content: &[u8], ownership: Ownership) -> Result<(), TreeError> {
        let (directory, name) = self.parent(path, "write")?;
        write_beside(&directory, name, content, ownership).map_err(failed("write", path))
    }

    /// Makes a symbolic link at `path` with the text `target`, whatever was there.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn link(&self, path: &str, target: &str) -> Result<(), TreeError> {
        let (directory, name) = self.parent(path, "link")?;
        if readlinkat(&directory, name, Vec::new()).is_ok_and(|found| found.to_bytes() == target.as_bytes()) {
            return Ok(());
        }
        let link = || {
            remove_if_there(&directory, name)?;
            symlinkat(target, &directory, name)?;
            fsync(&directory)
        };
        link().map_err(failed("link", path))
    }

    /// Removes the file or link at `path`, if there is one.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn remove(&self, path: &str) -> Result<(), TreeError> {
        let (directory, name) = self.parent(path, "remove")?;
        remove_if_there(&directory, name).and_then(|()| fsync(&directory)).map_err(failed("remove", path))
    }

    /// Makes sure that a directory with this ownership is at `path`; parents that are missing become root's
    /// with mode 0755.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn make_directory(&self, path: &str, ownership: Ownership) -> Result<(), TreeError> {
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        for end in ends.chain([path.len()]) {
            let part = &path[..end];
            let (directory, name) = self.parent(part, "make")?;
            match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => fsync(&directory).map_err(failed("make", path))?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("make", path)(errno)),
            }
        }
        let made = self.open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY);
        made.and_then(|directory| own(&directory, ownership)).map_err(failed("make", path))
    }

    /// The names in the directory at `path`; none when there is no such directory.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn names(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let directory = match self.open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(errno) => return Err(failed("list", path)(errno)),
        };
        let entries = rustix::fs::Dir::read_from(&directory).map_err(failed("list", path))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let names: Result<Vec<String>, Errno> = names.collect();
        let mut names = names.map_err(failed("list", path))?;
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// Who owns what is at `path`.
    ///
    /// # Errors
    /// [`TreeError`], also when there is nothing.
    pub fn ownership(&self, path: &str) -> Result<Ownership, TreeError> {
        let found = self.open_inside(path, OFlags::PATH).and_then(fstat).map_err(failed("look at", path))?;
        Ok(Ownership { user: found.st_uid, group: found.st_gid, mode: found.st_mode & 0o7777 })
    }

    /// Sets when the file at `path` was last changed, in seconds since 1970.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn set_modified(&self, path: &str, unix_seconds: u64) -> Result<(), TreeError> {
        let time = Timespec { tv_sec: i64::try_from(unix_seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        let file = self.open_inside(path, OFlags::WRONLY | OFlags::NONBLOCK);
        file.and_then(|file| futimens(&file, &times).and_then(|()| fsync(&file)))
            .map_err(failed("set the time of", path))
    }

    fn open_inside(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = || openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), RESOLVE);
        // A `..` cannot be proven to stay inside while anything on the machine is mounted or renamed; the
        // kernel then asks for another try (openat2(2), EAGAIN).
        let mut tries = (1..OPEN_TRIES).map(|_| open());
        tries.find(|opened| !matches!(opened, Err(Errno::AGAIN))).unwrap_or_else(open)
    }

    /// The open parent directory of `path`, and the last name in it.
    fn parent<'p>(&self, path: &'p str, action: &'static str) -> Result<(OwnedFd, &'p str), TreeError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(failed(action, path)(Errno::INVAL));
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        let directory = self.open_inside(parent, OFlags::RDONLY | OFlags::DIRECTORY);
        Ok((directory.map_err(failed(action, path))?, name))
    }
}

fn failed(action: &'static str, path: &str) -> impl Fn(Errno) -> TreeError {
    move |errno| TreeError { action, path: path.into(), source: errno.into() }
}

fn own(file: &impl AsFd, ownership: Ownership) -> Result<(), Errno> {
    fchown(file, Some(Uid::from_raw(ownership.user)), Some(Gid::from_raw(ownership.group)))?;
    // After the change of owner, which clears some of the bits.
    fchmod(file, Mode::from_raw_mode(ownership.mode))?;
    fsync(file)
}

fn remove_if_there(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Writes a new file in `directory` and puts it in the place of `name`.
fn write_beside(directory: &OwnedFd, name: &str, content: &[u8], ownership: Ownership) -> Result<(), Errno> {
    let beside = format!(".{name}.piseduce");
    remove_if_there(directory, &beside)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, &beside, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(content).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    own(&file, ownership)?;
    renameat(directory, &beside, directory, name)?;
    fsync(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use tempfile::TempDir;

    const PLAIN: Ownership = Ownership::root(0o644);

    /// A root with a secret outside that its links try to reach.
    fn hostile() -> (TempDir, Tree) {
        let outer = TempDir::new().unwrap();
        fs::write(outer.path().join("secret"), "boot root").unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        let tree = Tree::open(&root).unwrap();
        (outer, tree)
    }

    #[test]
    fn links_of_a_hostile_image_lead_nowhere_outside() {
        let (outer, tree) = hostile();
        let root = outer.path().join("root");
        symlink("../../secret", root.join("etc/up")).unwrap();
        symlink(outer.path(), root.join("etc/away")).unwrap();
        symlink("../../../../../..", root.join("etc/climb")).unwrap();
        symlink("/proc/self/root", root.join("etc/magic")).unwrap();
        for path in ["etc/up", "/etc/away/secret", "/etc/climb/secret", "/../secret", "/etc/magic/etc/passwd"]
        {
            assert!(tree.read(path).unwrap().is_none(), "{path}");
        }
        for path in ["/etc/away/secret", "/etc/climb/secret", "/../secret", "/etc/up"] {
            let _ = tree.write(path, b"overwritten", PLAIN);
            let _ = tree.replace(path, b"overwritten", PLAIN);
            let _ = tree.remove(path);
            let _ = tree.link(path, "/x");
        }
        let _ = tree.make_directory("/etc/away/made", Ownership::root(0o777));
        assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "boot root");
        assert!(!outer.path().join("made").exists());
        assert!(!root.join("etc/up").is_dir());
    }

    #[test]
    fn an_absolute_link_leads_to_where_it_would_on_the_node() {
        let (outer, tree) = hostile();
        let root = outer.path().join("root");
        fs::write(root.join("usr/lib/os-release"), "ID=debian").unwrap();
        symlink("/usr/lib/os-release", root.join("etc/os-release")).unwrap();
        symlink("/usr", root.join("sym")).unwrap();
        assert_eq!(tree.read_text("/etc/os-release").unwrap().unwrap(), "ID=debian");
        tree.write("/sym/lib/new", b"n", PLAIN).unwrap();
        assert!(root.join("usr/lib/new").exists());
    }

    #[test]
    fn a_replaced_file_keeps_its_owner_and_mode_and_a_written_one_gets_those_given() {
        let (outer, tree) = hostile();
        let path = outer.path().join("root/etc/shadow");
        let seen = || {
            let found = fs::metadata(&path).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        tree.replace("/etc/shadow", b"1", Ownership { user: 0, group: 42, mode: 0o640 }).unwrap();
        assert_eq!(seen(), (0, 42, 0o640));
        tree.replace("/etc/shadow", b"2", PLAIN).unwrap();
        assert_eq!((seen(), fs::read(&path).unwrap().as_slice()), ((0, 42, 0o640), b"2".as_slice()));
        tree.write("/etc/shadow", b"3", PLAIN).unwrap();
        assert_eq!(seen(), (0, 0, 0o644));
        assert_eq!(tree.names("/etc").unwrap(), ["shadow"], "nothing is left beside it");
    }

    #[test]
    fn directories_are_made_with_their_parents_and_owned() {
        let (outer, tree) = hostile();
        let user = Ownership { user: 1000, group: 1000, mode: 0o700 };
        tree.make_directory("/home/pi/.ssh", user).unwrap();
        tree.make_directory("/home/pi/.ssh", user).unwrap();
        assert_eq!(tree.ownership("/home/pi/.ssh").unwrap(), user);
        assert_eq!(tree.ownership("/home/pi").unwrap(), Ownership::root(0o755));
        assert!(outer.path().join("root/home/pi/.ssh").is_dir());
        assert!(tree.names("/no such directory").unwrap().is_empty());
    }

    #[test]
    fn a_pipe_in_the_image_does_not_hold_the_agent_up() {
        let (outer, tree) = hostile();
        let pipe = outer.path().join("root/etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(tree.read("/etc/passwd").is_err());
    }

    #[test]
    fn links_and_times_are_set_and_removed_files_are_gone() {
        let (outer, tree) = hostile();
        tree.link("/etc/unit", "../a").unwrap();
        tree.link("/etc/unit", "../b").unwrap();
        let path = outer.path().join("root/etc/unit");
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../b"));
        tree.remove("/etc/unit").unwrap();
        tree.remove("/etc/unit").unwrap();
        assert!(path.symlink_metadata().is_err());
        tree.write("/etc/clock", b"", PLAIN).unwrap();
        tree.set_modified("/etc/clock", 1_795_447_800).unwrap();
        assert_eq!(fs::metadata(outer.path().join("root/etc/clock")).unwrap().mtime(), 1_795_447_800);
    }
}
