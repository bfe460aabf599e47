//! A Pi 3 boots a card that has `bootcode.bin` before anything else, and would never be reached again; without it, it boots from
//! the network only. So its environment's boot files go to the head node, which serves them from then on, and `bootcode.bin` goes
//! from the card. Source: bootflow-legacy of the Raspberry Pi documentation; no board was tried.

use super::Step;
use super::cause::{StepError, failed};
use crate::card::fat::{self, Fat, FatError};
use crate::image::fetch::Upload;
use piseduce_protocol::boot_files::{
    ALL_BYTES_MAX, BootFile, BootFileList, COMMAND_LINE, CONFIG, FILE_BYTES_MAX, FILES_MAX, SECOND_STAGE,
    START, encode, is_boot_file, needs_boot_files, proof,
};
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::Hash;
use piseduce_protocol::path;
use std::io::{self, Read};

/// What is read at a time.
const READ_BYTES: usize = 64 * 1024;

impl Step<'_> {
    /// Uploads the boot files and takes the second stage off the card, where the board needs that.
    pub(super) fn hand_over_boot_files(&self) -> Result<(), StepError> {
        if !needs_boot_files(&self.task.node.model) {
            return Ok(());
        }
        let boot = self.boot_partition()?;
        let mut outcome = Ok(());
        fat::edit(self.card, boot.start, boot.bytes, |fat| {
            outcome = self.upload(fat);
            match outcome {
                Ok(()) => fat.remove(SECOND_STAGE),
                Err(_) => Ok(()),
            }
        })?;
        outcome
    }

    fn upload(&self, fat: &Fat<'_, '_>) -> Result<(), StepError> {
        let found = fat.files(is_boot_file, FILES_MAX)?;
        check(&found)?;
        let mut list = BootFileList::new();
        for (name, bytes) in found {
            let file = BootFile { hash: self.hash(fat, &name)?, name, bytes };
            self.send(fat, &file)?;
            list.push(file);
            self.advance();
        }
        let (deployment, run) = (self.task.ticket.deployment, self.task.ticket.run);
        let (path, content) = (path::boot_file_list(deployment, run), encode(&list));
        let upload = self.proved(&path, Hash::of(&content), content.len() as u64);
        self.head.put::<_, StepError>(&path, upload, || Ok(&content[..]))
    }

    fn send(&self, fat: &Fat<'_, '_>, file: &BootFile) -> Result<(), StepError> {
        let (deployment, run) = (self.task.ticket.deployment, self.task.ticket.run);
        let path = path::boot_file(deployment, run, &file.name);
        let upload = self.proved(&path, file.hash, file.bytes);
        self.head.put(&path, upload, || Ok::<_, StepError>(fat.reader(&file.name)?))
    }

    fn proved(&self, path: &str, content: Hash, bytes: u64) -> Upload {
        Upload { content, bytes, proof: proof(&self.task.node.upload_key, path, content, bytes) }
    }

    fn hash(&self, fat: &Fat<'_, '_>, name: &str) -> Result<Hash, StepError> {
        let mut reader = fat.reader(name)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            self.task.cancel.check()?;
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Hash(*hasher.finalize().as_bytes())),
                Ok(count) => drop(hasher.update(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FatError::reading(name, error).into()),
            }
        }
    }
}

/// Refuses what no Pi 3 could boot.
fn check(found: &[(String, u64)]) -> Result<(), StepError> {
    let missing = |what: &str| Err(failed(CauseKind::NoBootFiles, what.to_owned()));
    let has = |is_it: &dyn Fn(&str) -> bool| found.iter().any(|(name, _)| is_it(&name.to_ascii_lowercase()));
    for needed in [START, CONFIG, COMMAND_LINE] {
        if !has(&|name| name == needed) {
            return missing(&format!("the boot partition has no {needed}"));
        }
    }
    if !has(&|name| ["kernel", "vmlinuz", "uboot", "u-boot"].iter().any(|start| name.starts_with(start))) {
        return missing("the boot partition has no kernel");
    }
    if let Some((name, bytes)) = found.iter().find(|(_, bytes)| *bytes > FILE_BYTES_MAX) {
        return missing(&format!(
            "{name} has {bytes} bytes, and firmware fetches no more than {FILE_BYTES_MAX}"
        ));
    }
    let all: u64 = found.iter().map(|(_, bytes)| bytes).sum();
    if found.len() > FILES_MAX || all > ALL_BYTES_MAX {
        return missing(&format!(
            "its boot files are {} and have {all} bytes; {FILES_MAX} files and {ALL_BYTES_MAX} bytes are allowed",
            found.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pi_3_could_not_boot_is_refused_with_what_is_missing() {
        let whole = ["START.ELF", "config.txt", "cmdline.txt", "kernel8.img"];
        let files = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect::<Vec<_>>();
        assert!(check(&files(&whole)).is_ok());
        for (missing, expected) in [
            (0, "has no start.elf"),
            (1, "has no config.txt"),
            (2, "has no cmdline.txt"),
            (3, "has no kernel"),
        ] {
            let mut names = whole.to_vec();
            names.remove(missing);
            let StepError::Failed(cause) = check(&files(&names)).unwrap_err() else { panic!("stopped") };
            assert!(cause.is(CauseKind::NoBootFiles) && cause.to_string().contains(expected), "{cause}");
        }
        let mut large = files(&whole);
        large[3].1 = FILE_BYTES_MAX + 1;
        let StepError::Failed(cause) = check(&large).unwrap_err() else { panic!("stopped") };
        assert!(cause.to_string().contains("kernel8.img has 67107841 bytes"), "{cause}");
    }
}
