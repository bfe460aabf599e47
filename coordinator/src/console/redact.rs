//! Takes secrets out of a stream of bytes, wherever it is cut into reads. Pure.
//!
//! The names of secret parameters are told at once, the words behind them never. Serial lines lose bytes and are opened
//! in the middle of words, so of every long hexadecimal number only the beginning is told, whatever stands before it:
//! a boot token has 64 digits, and 16 of them help nobody.

use piseduce_protocol::boot::SECRET_PARAMETERS;

/// What stands in place of a secret.
const REMOVED: &[u8] = b"[removed]";
/// Serial numbers have as many digits; longer numbers are not told.
const DIGITS_TOLD: usize = 16;
/// The longest word that can be a secret, in bytes; after it a stream without spaces is told again.
const SECRET_BYTES_MAX: usize = 256;
/// At least the length of the longest name and its `=`.
const TAIL_BYTES: usize = 32;

/// Knows how far a stream is.
#[derive(Default)]
pub(super) struct Redactor {
    /// The last bytes.
    tail: Vec<u8>,
    /// How many bytes of a secret went by; none outside of one.
    secret: Option<usize>,
    /// Hexadecimal digits in a row.
    digits: usize,
}

impl Redactor {
    /// What may be told of the next bytes of the stream.
    pub(super) fn clean(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        bytes.iter().for_each(|byte| self.take(*byte, &mut clean));
        clean
    }

    fn take(&mut self, byte: u8, clean: &mut Vec<u8>) {
        if let Some(count) = &mut self.secret {
            // A damaged byte is no end of a word.
            let is_end = byte.is_ascii_whitespace() || *count >= SECRET_BYTES_MAX;
            *count += 1;
            if !is_end {
                return;
            }
            self.secret = None;
        }
        self.digits = if byte.is_ascii_hexdigit() { self.digits + 1 } else { 0 };
        match self.digits.saturating_sub(DIGITS_TOLD) {
            0 => clean.push(byte),
            1 => clean.extend(REMOVED),
            _ => {}
        }
        if self.tail.len() == TAIL_BYTES {
            self.tail.remove(0);
        }
        self.tail.push(byte);
        let is_name =
            |name: &str| self.tail.strip_suffix(b"=").is_some_and(|before| before.ends_with(name.as_bytes()));
        if SECRET_PARAMETERS.iter().any(|name| is_name(name)) {
            clean.extend(REMOVED);
            self.secret = Some(0);
            self.digits = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn cleaned(pieces: &[&str]) -> String {
        let mut redactor = Redactor::default();
        pieces.iter().map(|piece| String::from_utf8(redactor.clean(piece.as_bytes())).unwrap()).collect()
    }

    #[test]
    fn secrets_are_removed_wherever_the_stream_is_cut() {
        let line = format!(
            "[0.0] Kernel command line: console=ttyAMA0 piseduce.serial=10000000c2a4 piseduce.token={TOKEN} \
             piseduce.broker_user=agents piseduce.broker_password=p=w,'# panic=10\r\n"
        );
        let told = "[0.0] Kernel command line: console=ttyAMA0 piseduce.serial=10000000c2a4 \
             piseduce.token=[removed] piseduce.broker_user=agents piseduce.broker_password=[removed] panic=10\r\n";
        for cut in 0..line.len() {
            let (first, second) = line.split_at(cut);
            assert_eq!(cleaned(&[first, second]), told, "cut at {cut}");
        }
        let bytes: Vec<String> = line.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(cleaned(&bytes), told);
    }

    #[test]
    fn a_token_whose_name_was_lost_is_not_told_either() {
        assert_eq!(cleaned(&["iseduce.tken=", &TOKEN[..40], &TOKEN[40..], " x"]), {
            format!("iseduce.tken={}[removed] x", &TOKEN[..16])
        });
        let serial = "serial 10000000c2a41234, dc:a6:32:01:36:c2, 9f8a-4b\n";
        assert_eq!(cleaned(&[serial]), serial);
    }

    #[test]
    fn a_word_without_an_end_hides_only_so_much() {
        let told = cleaned(&["piseduce.token=", &"xy".repeat(500)]);
        assert!(told.starts_with("piseduce.token=[removed]") && told.len() > 500, "{told}");
    }
}
