//! The engine's event stream, read for one thing: which containers to look at again.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

use super::api::{Connection, refused, request};
use super::{Engine, EngineError};
use crate::app::AbortOnDrop;
use crate::consumers::names::ContainerName;

/// An open event stream. Dropping it closes it.
pub(super) struct EventStream {
    state: State,
    decoder: Decoder,
    _driver: AbortOnDrop,
}

enum State {
    /// Asked for. podman before version 5 answers only with the first event.
    Asked(Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>),
    Open(Incoming),
}

/// What is to be looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// Containers that something has happened to.
    Some(BTreeSet<ContainerName>),
    /// Every container.
    All,
}

impl EventStream {
    /// Asks for the stream. Whether it is refused shows at the first [`next`](Self::next).
    pub(super) async fn ask(engine: &Engine) -> Result<Self, EngineError> {
        let Connection { mut sender, driver } = engine.connect().await?;
        let response = sender.send_request(request(Method::GET, EVENTS)?);
        // The connection lives as long as its sender.
        let asked = async move {
            let response = response.await;
            drop(sender);
            response
        };
        Ok(Self {
            state: State::Asked(Box::pin(asked)),
            decoder: Decoder::default(),
            _driver: driver,
        })
    }

    /// Waits for news. Dropped and called again it goes on where it was.
    ///
    /// # Errors
    /// When the stream is refused, ends, or is no stream of events.
    pub(super) async fn next(&mut self) -> Result<News, EngineError> {
        loop {
            match &mut self.state {
                State::Asked(asked) => {
                    let response = asked.await.map_err(|error| EngineError::broken(&error))?;
                    let status = response.status();
                    if status != StatusCode::OK {
                        return Err(refused("to tell of events", status, b""));
                    }
                    self.state = State::Open(response.into_body());
                    // Whatever happened until now may have happened before the stream was open.
                    return Ok(News::All);
                }
                State::Open(body) => {
                    let data = frame(body).await?;
                    if let Some(news) = self.decoder.push(&data)? {
                        return Ok(news);
                    }
                }
            }
        }
    }
}

/// Lines, however they are cut into frames.
#[derive(Debug, Default)]
struct Decoder {
    /// A line that has not ended yet.
    begun: Vec<u8>,
}

impl Decoder {
    /// Takes more bytes: the news of every line that has ended with them.
    fn push(&mut self, mut data: &[u8]) -> Result<Option<News>, EngineError> {
        let mut news = None;
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = data.split_at(end);
            self.extend(line)?;
            // An engine that only keeps the connection alive sends empty lines.
            if !self.begun.trim_ascii().is_empty() {
                News::join(&mut news, meaning(&self.begun));
            }
            self.begun.clear();
            data = rest.get(1..).unwrap_or_default();
        }
        self.extend(data)?;
        Ok(news)
    }

    fn extend(&mut self, data: &[u8]) -> Result<(), EngineError> {
        if self.begun.len() + data.len() > MAX_LINE {
            return Err(EngineError::Answer("an event does not end".to_owned()));
        }
        self.begun.extend_from_slice(data);
        Ok(())
    }
}

impl News {
    fn join(all: &mut Option<Self>, more: Self) {
        match (all.as_mut(), more) {
            (Some(Self::Some(names)), Self::Some(more)) => names.extend(more),
            (Some(Self::All), _) => {}
            (_, more) => *all = Some(more),
        }
    }
}

/// What one event means. An event is a reason to look and nothing more, so that it does not matter
/// in which order, how late and how often events come.
fn meaning(line: &[u8]) -> News {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Event {
        action: String,
        actor: Actor,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Actor {
        attributes: Attributes,
    }
    #[derive(Deserialize)]
    struct Attributes {
        name: ContainerName,
    }
    match serde_json::from_slice::<Event>(line) {
        // A container that takes a name leaves another, which podman does not tell.
        Ok(event) if event.action != "rename" => {
            News::Some(BTreeSet::from([event.actor.attributes.name]))
        }
        _ => News::All,
    }
}

async fn frame(body: &mut Incoming) -> Result<Bytes, EngineError> {
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(data);
                }
            }
            Some(Err(error)) => return Err(EngineError::broken(&error)),
            None => return Err(EngineError::Answer("it ended the events".to_owned())),
        }
    }
}

/// `GET /events`, of containers alone, and only what can change whether one is there: health checks
/// and commands run in containers would wake the agent all day. Either engine takes the other's
/// names for events that never come. Decoded: `{"type":["container"],"event":["create",…]}`.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B\
%22create%22%2C%22init%22%2C%22start%22%2C%22restart%22%2C%22restore%22%2C%22checkpoint%22%2C\
%22die%22%2C%22died%22%2C%22stop%22%2C%22cleanup%22%2C%22destroy%22%2C%22remove%22%2C\
%22rename%22%5D%7D";

/// An event carries the container's labels, which are people's.
const MAX_LINE: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(action: &str, name: &str) -> String {
        format!(
            r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"ab","Attributes":{{"image":"x","name":"{name}"}}}},"time":1}}"#
        )
    }

    fn some(names: &[&str]) -> News {
        News::Some(names.iter().map(|n| n.parse().expect("a name")).collect())
    }

    #[test]
    fn an_event_names_the_container_to_look_at() {
        assert_eq!(meaning(event("die", "up").as_bytes()), some(&["up"]));
    }

    #[test]
    fn what_is_not_understood_or_moves_a_name_means_all() {
        for line in [
            &event("rename", "up"),
            &event("die", "../etc"),
            "{",
            "[]",
            r#"{"Action":"die","Actor":{"Attributes":{}}}"#,
        ] {
            assert_eq!(meaning(line.as_bytes()), News::All, "{line}");
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_refused_before_it_fills_the_memory() {
        let mut decoder = Decoder::default();
        let piece = [b'x'; 8192];
        let taken = (0..1_000_000).find(|_| decoder.push(&piece).is_err());
        assert_eq!(taken, Some(MAX_LINE / piece.len()));
        assert!(decoder.begun.len() <= MAX_LINE);
    }

    proptest! {
        #[test]
        fn however_lines_are_cut_they_mean_the_same(
            names in proptest::collection::vec("[a-c]", 1..8),
            cuts in proptest::collection::vec(1_usize..40, 1..40),
        ) {
            let text: String = names.iter().map(|name| event("start", name) + "\r\n\n").collect();
            let mut decoder = Decoder::default();
            let mut news = None;
            let (mut rest, mut cuts) = (text.as_bytes(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let at = cuts.next().unwrap_or(1).min(rest.len());
                let (now, later) = rest.split_at(at);
                if let Some(more) = decoder.push(now).expect("short lines") {
                    News::join(&mut news, more);
                }
                rest = later;
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(news, Some(some(&names)));
        }

        #[test]
        fn no_line_breaks_the_reader(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = meaning(&line);
        }
    }
}
