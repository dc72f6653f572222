//! A container engine that does what a test says: containers with states, events when told, and the
//! ways in which real engines differ or fail.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::{Engine, PACE, Pace};
use crate::app::AbortOnDrop;

/// The engine, and where its socket is. It stops, and every conversation breaks, when told to.
pub(super) struct FakeEngine {
    place: TempDir,
    world: Arc<Mutex<World>>,
    running: Option<AbortOnDrop>,
}

/// What the engine knows and how it behaves.
#[derive(Default)]
pub(super) struct World {
    /// State by name.
    pub(super) containers: BTreeMap<String, String>,
    /// What was asked, in order, but for inspections.
    pub(super) asked: Vec<String>,
    /// How often containers were inspected.
    pub(super) looks: usize,
    /// Inspecting these never ends.
    pub(super) hanging: Vec<String>,
    /// Answers to give to `kill` instead of the right one, and the state the container has then.
    pub(super) kills: VecDeque<(u16, &'static str)>,
    /// The answer to `GET /events`; 0 is the right one.
    pub(super) events_status: u16,
    /// Answer `GET /events` with the first event only, as podman 4 does.
    pub(super) late_headers: bool,
    streams: Vec<mpsc::UnboundedSender<Bytes>>,
}

impl FakeEngine {
    /// An engine that is there and serves.
    pub(super) fn start() -> Self {
        let mut engine = Self::away();
        engine.serve();
        engine
    }

    /// An engine without a socket.
    pub(super) fn away() -> Self {
        Self {
            place: tempfile::tempdir().expect("a place"),
            world: Arc::default(),
            running: None,
        }
    }

    /// Serves, in the place of a former socket.
    pub(super) fn serve(&mut self) {
        self.stop();
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let world = self.world.clone();
        self.running = Some(AbortOnDrop::new(tokio::spawn(async move {
            let mut conversations = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let world = world.clone();
                let service = service_fn(move |request| answer(request, world.clone()));
                let conversation =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                conversations.push(AbortOnDrop::new(tokio::spawn(async {
                    conversation.await.ok();
                })));
            }
        })));
    }

    /// Ends, and leaves no socket.
    pub(super) fn stop(&mut self) {
        self.running = None;
        std::fs::remove_file(self.socket()).ok();
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.place.path().join("engine.sock")
    }

    /// A client that is in no hurry to look again.
    pub(super) fn client(&self) -> Engine {
        Engine::new(Some(self.socket()))
    }

    /// A client with other times.
    pub(super) fn client_at(&self, answer: Duration, look_again: Duration) -> Engine {
        Engine {
            pace: Pace {
                answer,
                look_again,
                ..PACE
            },
            ..Engine::new(Some(self.socket()))
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panicked with it")
    }

    /// Sets a container's state without telling anybody.
    pub(super) fn set_silently(&self, name: &str, status: &str) {
        self.world()
            .containers
            .insert(name.to_owned(), status.to_owned());
    }

    /// Sets a container's state and tells it; the state `gone` removes it.
    pub(super) fn set(&self, name: &str, status: &str) {
        if status == "gone" {
            self.world().containers.remove(name);
        } else {
            self.set_silently(name, status);
        }
        self.send(event("whatever", name));
    }

    /// Sends bytes on every event stream.
    pub(super) fn send(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.world()
            .streams
            .retain(|stream| stream.send(bytes.clone()).is_ok());
    }

    /// Ends every event stream, in order.
    pub(super) fn end_streams(&self) {
        self.world().streams.clear();
    }

    /// How many event streams are open.
    pub(super) fn streams(&self) -> usize {
        let mut world = self.world();
        world.streams.retain(|stream| !stream.is_closed());
        world.streams.len()
    }
}

/// One event as engines write it, with its newline.
pub(super) fn event(action: &str, name: &str) -> String {
    format!(
        r#"{{"status":"{action}","id":"{id}","Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"image":"i","name":"{name}"}}}},"time":1}}{end}"#,
        id = id(name),
        end = '\n',
    )
}

/// The id of the container that is called so.
pub(super) fn id(name: &str) -> String {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    world: Arc<Mutex<World>>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = Path::new(&path).iter().filter_map(|p| p.to_str()).collect();
    let hangs = {
        let mut world = world.lock().expect("no test panicked with it");
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["/", "containers", name, "json"]) => {
                world.looks += 1;
                if !world.hanging.iter().any(|hanging| hanging == name) {
                    return Ok(inspected(&world, name));
                }
                true
            }
            (&Method::POST, ["/", "containers", id, "kill"]) => {
                let query = request.uri().query().unwrap_or_default();
                world.asked.push(format!("{path}?{query}"));
                return Ok(kill(&mut world, id));
            }
            (&Method::GET, ["/", "events"]) => {
                world.asked.push("events".to_owned());
                false
            }
            _ => {
                return Ok(plain(
                    StatusCode::NOT_FOUND,
                    "{\"message\":\"page not found\"}",
                ));
            }
        }
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    Ok(events(&world).await)
}

fn inspected(world: &World, name: &str) -> Response<Body> {
    // As engines do: a name, or the beginning of an id.
    let found = world
        .containers
        .iter()
        .find(|(called, _)| *called == name || id(called).starts_with(name));
    match found {
        Some((called, status)) => plain(
            StatusCode::OK,
            &format!(
                r#"{{"Id":"{}","Created":"x","Name":"/{called}","State":{{"Status":"{status}","Pid":7}},"Config":{{"Env":["A=b"]}}}}"#,
                id(called),
            ),
        ),
        None => plain(StatusCode::NOT_FOUND, r#"{"message":"no such container"}"#),
    }
}

fn kill(world: &mut World, wanted: &str) -> Response<Body> {
    let name = world.containers.keys().find(|name| id(name) == wanted);
    let Some(name) = name.cloned() else {
        return plain(StatusCode::NOT_FOUND, r#"{"message":"no such container"}"#);
    };
    match world.kills.pop_front() {
        Some((status, state)) => {
            match state {
                "gone" => world.containers.remove(&name),
                state => world.containers.insert(name, state.to_owned()),
            };
            let status = StatusCode::from_u16(status).expect("a status");
            plain(status, r#"{"message":"no\u001b[31m can do"}"#)
        }
        None => plain(StatusCode::NO_CONTENT, ""),
    }
}

async fn events(world: &Mutex<World>) -> Response<Body> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let (status, late) = {
        let mut world = world.lock().expect("no test panicked with it");
        world.streams.push(sender);
        (world.events_status, world.late_headers)
    };
    if status != 0 {
        return plain(StatusCode::from_u16(status).expect("a status"), "{}");
    }
    let first = if late { receiver.recv().await } else { None };
    let stream = stream::unfold((first, receiver), |(first, mut receiver)| async move {
        let bytes = match first {
            Some(first) => first,
            None => receiver.recv().await?,
        };
        Some((Ok(Frame::data(bytes)), (None, receiver)))
    });
    Response::new(StreamBody::new(stream).boxed_unsync())
}

fn plain(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_owned())).boxed_unsync());
    *response.status_mut() = status;
    response
}
