//! The stream of `GET /v1/watch`.

use edge_secrets_protocol::watch::{WatchDecoder, WatchEvent};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::HubError;

/// Events as they come. Dropping it ends the stream.
pub struct WatchStream {
    body: Incoming,
    decoder: WatchDecoder,
    url: String,
}

impl WatchStream {
    pub(super) fn new(body: Incoming, url: String) -> Self {
        Self {
            body,
            decoder: WatchDecoder::default(),
            url,
        }
    }

    /// Waits for the next events; at least one.
    ///
    /// # Errors
    /// When the stream ends, which is also how a lost connection shows, or is malformed.
    pub async fn next(&mut self) -> Result<Vec<WatchEvent>, HubError> {
        loop {
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(HubError::broken(&self.url, &error)),
                None => return Err(HubError::Lost("the hub ended the watch".into())),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let events = self.decoder.push(&data).map_err(|_| HubError::Malformed {
                what: "the watch",
                reason: "it is no stream of events",
            })?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
