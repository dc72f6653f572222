//! The events of `GET /v1/watch`: server-sent events (WHATWG HTML §9.2) with the generation as id.
//!
//! An event is a hint that a pull is due; a lost one delays and never loses a change. The hub sends
//! one at once when the node's generation is not the `Last-Event-ID` it came with.

use serde::{Deserialize, Serialize};

use crate::limits::MAX_WATCH_LINE;
use crate::name::Generation;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEvent {
    /// The node's generation has moved: pull, after a random part of `spread_ms`.
    Bindings(BindingsEvent),
    /// The node is revoked: wipe.
    Revoked,
}

/// The data of a `bindings` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingsEvent {
    /// The generation to pull.
    pub generation: Generation,
    /// Milliseconds over which the touched nodes spread their pulls; 0 when few are touched.
    #[serde(default)]
    pub spread_ms: u32,
}

impl WatchEvent {
    /// The event as it stands in the stream.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Bindings(BindingsEvent {
                generation,
                spread_ms,
            }) => format!(
                "event: bindings\nid: {generation}\n\
                 data: {{\"generation\":{generation},\"spread_ms\":{spread_ms}}}\n\n"
            ),
            Self::Revoked => "event: revoked\ndata: {}\n\n".to_owned(),
        }
    }
}

/// A comment line that keeps the stream alive and says nothing.
pub const HEARTBEAT: &str = ":\n\n";

/// A stream that is not one of server-sent events within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watch stream is malformed")]
pub struct WatchError;

/// Reads events from the stream's bytes, however they are cut.
#[derive(Debug, Default)]
pub struct WatchDecoder {
    line: Vec<u8>,
    event: String,
    data: String,
}

impl WatchDecoder {
    /// Takes the next bytes and gives the events that they complete. Events of unknown kinds and
    /// comments are passed over.
    ///
    /// # Errors
    /// When a line is too long or not UTF-8, or an event's data does not parse. The stream cannot
    /// be read on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<WatchEvent>, WatchError> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() >= MAX_WATCH_LINE {
                    return Err(WatchError);
                }
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = std::str::from_utf8(&line).map_err(|_| WatchError)?;
            events.extend(self.line(line.strip_suffix('\r').unwrap_or(line))?);
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Result<Option<WatchEvent>, WatchError> {
        if line.is_empty() {
            let (event, data) = (
                std::mem::take(&mut self.event),
                std::mem::take(&mut self.data),
            );
            return match event.as_str() {
                "bindings" => {
                    let data = serde_json::from_str(&data).map_err(|_| WatchError)?;
                    Ok(Some(WatchEvent::Bindings(data)))
                }
                "revoked" => Ok(Some(WatchEvent::Revoked)),
                _ => Ok(None),
            };
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" if self.data.len() + value.len() > MAX_WATCH_LINE => return Err(WatchError),
            "data" => self.data.push_str(value),
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bindings(generation: u64, spread_ms: u32) -> WatchEvent {
        WatchEvent::Bindings(BindingsEvent {
            generation: Generation(generation),
            spread_ms,
        })
    }

    #[test]
    fn comments_and_unknown_events_are_passed_over() {
        let mut decoder = WatchDecoder::default();
        let stream = format!(
            "{HEARTBEAT}event: news\r\ndata: x\r\n\r\n{}",
            bindings(7, 0).encode()
        );
        assert_eq!(decoder.push(stream.as_bytes()), Ok(vec![bindings(7, 0)]));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = WatchDecoder::default();
        assert_eq!(decoder.push(&[b'x'; MAX_WATCH_LINE + 1]), Err(WatchError));
    }

    proptest! {
        #[test]
        fn events_survive_any_cut(
            sent in prop::collection::vec((any::<u64>(), any::<u32>()), 0..10),
            cut in 1usize..40,
        ) {
            let sent: Vec<_> = sent.into_iter().map(|(g, s)| bindings(g, s)).collect();
            let stream: String = sent.iter().map(WatchEvent::encode).collect();
            let mut decoder = WatchDecoder::default();
            let mut got = Vec::new();
            for piece in stream.as_bytes().chunks(cut) {
                got.extend(decoder.push(piece).unwrap());
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            WatchDecoder::default().push(&bytes).ok();
        }
    }
}
