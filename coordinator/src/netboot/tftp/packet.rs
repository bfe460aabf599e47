//! The packets of TFTP, as bytes and as what they say; pure. RFC 1350 (packets), 2347 (options), 2348 (blksize), 2349 (timeout,
//! tsize), 7440 (windowsize).

use std::time::Duration;

/// The longest request (RFC 2347, section 2).
pub(super) const REQUEST_BYTES_MAX: usize = 512;
/// What a client may ask a block to hold (RFC 2348).
const BLOCK_BYTES: std::ops::RangeInclusive<u64> = 8..=65464;
/// What a client may ask for as the time to the next try, in seconds (RFC 2349).
const TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=255;
/// How many blocks a client may ask for at once (RFC 7440).
const WINDOW: std::ops::RangeInclusive<u64> = 1..=65535;

const READ: u16 = 1;
const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// Why a client gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such file.
    NotFound,
    /// No firmware asks for such a thing.
    Forbidden,
    /// Text is translated by `netascii`, and boot files are no text; `mail` is obsolete since RFC 1350.
    Mode,
    /// An option stands there twice.
    Options,
    /// The file cannot be read any more.
    Unreadable,
}

impl Refusal {
    /// The packet that says so.
    pub(super) fn bytes(self) -> Vec<u8> {
        let (code, text) = match self {
            Refusal::NotFound => (1u16, "file not found"),
            Refusal::Forbidden => (2, "not allowed"),
            Refusal::Mode => (4, "only binary transfers: set mode octet"),
            Refusal::Options => (8, "an option is given twice"),
            Refusal::Unreadable => (0, "the file cannot be read"),
        };
        let mut packet = [ERROR.to_be_bytes(), code.to_be_bytes()].concat();
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
        packet
    }
}

/// What a client asks a server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To be sent a file.
    Read(ReadRequest),
    /// To be let write one.
    Write,
    /// Something that is refused whoever asks.
    Refused(Refusal),
}

/// A question for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadRequest {
    /// Its name as it was sent.
    pub(super) name: String,
    /// How it is to be sent.
    pub(super) options: Options,
}

/// What a client asks for beside the file. What makes no sense is left out, as if it had not been asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Bytes a block.
    pub(super) block_bytes: Option<u16>,
    /// Blocks before an acknowledgement.
    pub(super) window: Option<u16>,
    /// How long to wait before a block is sent again.
    pub(super) timeout: Option<Duration>,
    /// Whether to tell the file's size.
    pub(super) tells_size: bool,
}

impl Request {
    /// What these bytes ask for; none: they are no request, and nobody waits for an answer.
    pub(super) fn parse(bytes: &[u8]) -> Option<Request> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        let (kind, rest) = bytes.split_at_checked(2)?;
        match u16::from_be_bytes([kind[0], kind[1]]) {
            WRITE => return Some(Request::Write),
            READ => {}
            _ => return None,
        }
        // Every text ends with a zero.
        let mut texts = rest.strip_suffix(&[0])?.split(|byte| *byte == 0);
        let (name, mode) = (texts.next()?, texts.next()?);
        if !mode.eq_ignore_ascii_case(b"octet") {
            return Some(Request::Refused(Refusal::Mode));
        }
        let Ok(name) = std::str::from_utf8(name) else { return Some(Request::Refused(Refusal::Forbidden)) };
        let Some(options) = Options::parse(texts) else { return Some(Request::Refused(Refusal::Options)) };
        Some(Request::Read(ReadRequest { name: name.into(), options }))
    }
}

impl Options {
    /// From names and values in turn; none: one of them stands there twice, which RFC 2347 forbids.
    fn parse<'a>(mut texts: impl Iterator<Item = &'a [u8]>) -> Option<Options> {
        let (mut options, mut seen) = (Options::default(), Vec::new());
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            let name = name.to_ascii_lowercase();
            if seen.contains(&name) {
                return None;
            }
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            let within =
                |range: std::ops::RangeInclusive<u64>| number.filter(|number| range.contains(number));
            match &name[..] {
                b"blksize" => options.block_bytes = within(BLOCK_BYTES).and_then(|n| n.try_into().ok()),
                b"windowsize" => options.window = within(WINDOW).and_then(|n| n.try_into().ok()),
                b"timeout" => options.timeout = within(TIMEOUT_S).map(Duration::from_secs),
                b"tsize" => options.tells_size = number.is_some(),
                _ => {}
            }
            seen.push(name);
        }
        Some(options)
    }
}

/// What a client says while a file is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It has everything up to the block of this number.
    Acknowledged(u16),
    /// It wants no more.
    Ended,
}

impl Reply {
    /// What these bytes say; none: nothing that belongs there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Reply> {
        let (kind, rest) = bytes.split_at_checked(2)?;
        match u16::from_be_bytes([kind[0], kind[1]]) {
            ACKNOWLEDGE => Some(Reply::Acknowledged(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]))),
            ERROR => Some(Reply::Ended),
            _ => None,
        }
    }
}

/// The packet with the options that are agreed to.
pub(super) fn agreed(options: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = OPTIONS.to_be_bytes().to_vec();
    for (name, value) in options {
        packet.extend_from_slice(name.as_bytes());
        packet.push(0);
        packet.extend_from_slice(value.to_string().as_bytes());
        packet.push(0);
    }
    packet
}

/// The packet with a block of a file.
pub(super) fn data(number: u16, content: &[u8]) -> Vec<u8> {
    [&DATA.to_be_bytes()[..], &number.to_be_bytes(), content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(texts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = READ.to_be_bytes().to_vec();
        for text in texts {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        bytes
    }

    fn options(texts: &[&[u8]]) -> Options {
        match Request::parse(&request(&[&[&b"x"[..], b"octet"], texts].concat())) {
            Some(Request::Read(read)) => read.options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_of_real_boards_are_understood() {
        let bytes = request(&[b"e1ffda08/start.elf", b"octet", b"tsize", b"0", b"blksize", b"1468"]);
        let options = Options { block_bytes: Some(1468), tells_size: true, ..Options::default() };
        let read = ReadRequest { name: "e1ffda08/start.elf".into(), options };
        assert_eq!(Request::parse(&bytes), Some(Request::Read(read)));
        let bare = Request::parse(b"\0\x01bootcode.bin\0OCTET\0");
        let read = ReadRequest { name: "bootcode.bin".into(), options: Options::default() };
        assert_eq!(bare, Some(Request::Read(read)));
        assert_eq!(Request::parse(b"\0\x02x\0octet\0"), Some(Request::Write));
    }

    #[test]
    fn options_that_make_no_sense_are_not_agreed_to() {
        let hostile: [&[u8]; 7] = [b"0", b"7", b"65465", b"-1", b"99999999999999999999999", b"", b"\xff"];
        for value in hostile {
            assert_eq!(options(&[b"blksize", value]).block_bytes, None, "{value:?}");
        }
        assert_eq!(options(&[b"BLKSIZE", b"65464"]).block_bytes, Some(65464));
        assert_eq!(options(&[b"windowsize", b"0"]).window, None);
        assert_eq!(options(&[b"timeout", b"256"]).timeout, None);
        assert_eq!(options(&[b"multicast", b"", b"tsize", b"0"]), options(&[b"tsize", b"0"]));
        assert_eq!(options(&[b"tsize"]), Options::default(), "without a value");
        let twice = request(&[b"x", b"octet", b"blksize", b"512", b"BlkSize", b"1024"]);
        assert_eq!(Request::parse(&twice), Some(Request::Refused(Refusal::Options)));
    }

    #[test]
    fn what_is_no_request_is_dropped_and_what_nobody_may_ask_for_is_refused() {
        let long = [b"\0\x01", &[b'x'; 10_000][..], b"\0octet\0"].concat();
        let no_end = request(&[b"x", b"octet"]);
        for bytes in
            [&b""[..], b"\0", b"\0\x01", b"\0\x01x", b"\0\x01x\0", b"\0\x04\0\0", b"\xff\xff\0\0", &long]
        {
            assert_eq!(Request::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Request::parse(&no_end[..no_end.len() - 1]), None);
        for mode in [&b"netascii"[..], b"mail", b"", b"\xff"] {
            let asked = Request::parse(&request(&[b"x", mode]));
            assert_eq!(asked, Some(Request::Refused(Refusal::Mode)), "{mode:?}");
        }
        let odd = Request::parse(&request(&[b"\xff\xfe", b"octet"]));
        assert_eq!(odd, Some(Request::Refused(Refusal::Forbidden)));
    }

    #[test]
    fn packets_are_what_the_documents_say() {
        assert_eq!(agreed(&[("tsize", 7), ("blksize", 1468)]), b"\0\x06tsize\x007\0blksize\x001468\0");
        assert_eq!(data(258, b"ab"), b"\0\x03\x01\x02ab");
        assert_eq!(Refusal::NotFound.bytes(), b"\0\x05\0\x01file not found\0");
        assert_eq!(Reply::parse(b"\0\x04\x01\x02"), Some(Reply::Acknowledged(258)));
        assert_eq!(Reply::parse(b"\0\x05\0\0Early terminate\0"), Some(Reply::Ended));
        for bytes in [&b""[..], b"\0\x04\0", b"\0\x03\0\x01x"] {
            assert_eq!(Reply::parse(bytes), None);
        }
    }
}
