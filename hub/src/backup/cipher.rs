//! A stream that is encrypted in pieces: AES-256-GCM over 64 KiB each, in the manner of STREAM (Hoang,
//! Reyhanitabar, Rogaway, Vizár 2015). The nonce is the piece's number and whether it is the last, so
//! that pieces that were changed, moved, doubled or cut off do not open.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// The key of one stream and of no other: nonces are numbers that begin with 0.
pub(super) type StreamKey = Zeroizing<[u8; 32]>;

/// Encrypts what is written to it. Without [`finish`](Self::finish) the stream is cut short, and
/// does not open.
pub(super) struct Sealing<W> {
    out: W,
    pieces: Pieces,
    plain: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealing<W> {
    pub(super) fn new(out: W, key: &StreamKey) -> io::Result<Self> {
        Ok(Self {
            out,
            pieces: Pieces::new(key)?,
            plain: Zeroizing::new(Vec::with_capacity(PIECE + TAG)),
        })
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.emit(true)?;
        Ok(self.out)
    }

    fn emit(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.pieces.next(last)?;
        self.pieces
            .key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.plain)
            .map_err(|_| io::Error::other("it cannot be encrypted"))?;
        self.out.write_all(&self.plain)?;
        self.plain.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full piece waits for more: the last one must be known as such.
        if self.plain.len() == PIECE && !bytes.is_empty() {
            self.emit(false)?;
        }
        let room = PIECE - self.plain.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.plain.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decrypts what is read through it. The end is an end only when the last piece says so.
pub(super) struct Opening<R> {
    from: R,
    pieces: Pieces,
    /// Read ahead, as only the piece behind which there is none is the last.
    ahead: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    given: usize,
    over: bool,
}

impl<R: Read> Opening<R> {
    pub(super) fn new(mut from: R, key: &StreamKey) -> io::Result<Self> {
        let ahead = piece(&mut from)?;
        Ok(Self {
            from,
            pieces: Pieces::new(key)?,
            ahead,
            plain: Zeroizing::new(Vec::new()),
            given: 0,
            over: false,
        })
    }

    fn refill(&mut self) -> io::Result<()> {
        let following = piece(&mut self.from)?;
        let mut text = Zeroizing::new(std::mem::replace(&mut self.ahead, following));
        let last = self.ahead.is_empty();
        let first = self.pieces.number == 0;
        let nonce = self.pieces.next(last)?;
        let opened = self
            .pieces
            .key
            .open_in_place(nonce, Aad::empty(), &mut text);
        let len = opened.map(|plain| plain.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                if first { NOT_OURS } else { DAMAGED },
            )
        })?;
        text.truncate(len);
        self.plain = text;
        self.given = 0;
        self.over = last;
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.given == self.plain.len() {
            if self.over {
                return Ok(0);
            }
            self.refill()?;
        }
        let rest = self.plain.get(self.given..).unwrap_or_default();
        let len = rest.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.given += len;
        Ok(len)
    }
}

/// A key and the number of the next piece.
struct Pieces {
    key: LessSafeKey,
    number: u64,
}

impl Pieces {
    fn new(key: &StreamKey) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice())
            .map_err(|_| io::Error::other("the key is malformed"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            number: 0,
        })
    }

    fn next(&mut self, last: bool) -> io::Result<Nonce> {
        let mut nonce = [0; NONCE_LEN];
        let (number, flag) = nonce.split_at_mut(NONCE_LEN - 1);
        number
            .iter_mut()
            .rev()
            .zip(self.number.to_le_bytes())
            .for_each(|(to, from)| *to = from);
        flag.fill(u8::from(last));
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| io::Error::other("the stream is too long"))?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// As much as one piece has, less at the end, nothing behind it.
fn piece(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(PIECE + TAG);
    from.by_ref()
        .take((PIECE + TAG) as u64)
        .read_to_end(&mut text)?;
    Ok(text)
}

const PIECE: usize = 64 * 1024;
const TAG: usize = 16;
const NOT_OURS: &str = "it does not open: it was made with another passphrase or for another key, or \
                        its beginning was changed";
const DAMAGED: &str = "it is damaged or cut short";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> StreamKey {
        Zeroizing::new([byte; 32])
    }

    fn seal(plain: &[u8]) -> Vec<u8> {
        let mut sealing = Sealing::new(Vec::new(), &key(1)).unwrap();
        sealing.write_all(plain).unwrap();
        sealing.finish().unwrap()
    }

    fn open(text: &[u8], with: u8) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Opening::new(text, &key(with))?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn what_goes_in_comes_out_at_every_border() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7] {
            let plain: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            assert_eq!(open(&seal(&plain), 1).unwrap(), plain, "{len}");
        }
    }

    #[test]
    fn what_was_cut_moved_or_lengthened_does_not_open() {
        let text = seal(&vec![7; 3 * PIECE + 9]);
        let whole = PIECE + TAG;
        for cut in [0, 1, TAG, whole, 2 * whole, 3 * whole, text.len() - 1] {
            assert!(open(&text[..cut], 1).is_err(), "{cut}");
        }
        let swapped = [&text[whole..2 * whole], &text[..whole], &text[2 * whole..]].concat();
        let doubled = [&text[..whole], &text[..]].concat();
        let longer = [&text[..], &[0]].concat();
        for text in [swapped, doubled, longer] {
            assert!(open(&text, 1).is_err());
        }
        let error = open(&text, 2).unwrap_err();
        assert_eq!(error.to_string(), NOT_OURS);
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed_and_foreign_bytes_never_panic(
            plain in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
            foreign in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut text = seal(&plain);
            let byte = at.index(text.len());
            text[byte] ^= flip;
            prop_assert!(open(&text, 1).is_err());
            prop_assert!(open(&foreign, 1).is_err());
        }
    }
}
