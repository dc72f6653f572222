//! `GET /v1/watch`: server-sent events, the node's hint that a pull is due.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use edge_secrets_protocol::Generation;
use edge_secrets_protocol::watch::{BindingsEvent, HEARTBEAT, WatchEvent};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::generation;
use crate::api::peer::{NodePeer, revoked};
use crate::api::problem::ApiError;
use crate::feed::Watcher;
use crate::hub::Hub;

/// One event at once if the node's generation is not the one it comes with, and then the newest
/// whenever it changes. Ends when the hub stops, and after the event that the node is revoked.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    peer: NodePeer,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(generation);
    let events = Events::open(hub, peer, seen).await?;
    let body = stream::unfold(events, |mut events| async move {
        let piece = events.next().await?;
        Some((Ok::<_, Infallible>(piece), events))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct Events {
    hub: Arc<Hub>,
    peer: NodePeer,
    watcher: Watcher,
    /// The generation that the node heard of last.
    sent: Generation,
    first: Option<BindingsEvent>,
    heartbeat: Instant,
    ended: bool,
}

impl Events {
    async fn open(
        hub: Arc<Hub>,
        peer: NodePeer,
        seen: Option<Generation>,
    ) -> Result<Self, ApiError> {
        // First watch, then read: what changes in between is then heard of.
        let watcher = hub.feed.watch(&peer.org, &peer.node);
        let record = hub.catalog.node(&peer.org, &peer.node).await?;
        let record = record
            .filter(|record| !record.revoked)
            .ok_or_else(|| revoked(&peer.node))?;
        let first = (seen != Some(record.generation)).then_some(BindingsEvent {
            generation: record.generation,
            spread_ms: 0,
        });
        debug!(org = %peer.org, node = %peer.node, "A node watches.");
        hub.leases.arrived(&peer.org, &peer.node);
        Ok(Self {
            hub,
            peer,
            watcher,
            sent: record.generation,
            first,
            heartbeat: Instant::now() + HEARTBEAT_EVERY,
            ended: false,
        })
    }

    /// The next bytes of the stream; asked for only when the node can take them.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(self.bindings(first));
        }
        loop {
            tokio::select! {
                news = self.watcher.next() => {
                    let news = news?;
                    if news.revoked {
                        return self.revoked().await;
                    }
                    if news.generation > self.sent {
                        return Some(self.bindings(BindingsEvent {
                            generation: news.generation,
                            spread_ms: news.spread_ms,
                        }));
                    }
                }
                () = sleep_until(self.heartbeat) => {
                    self.heartbeat = Instant::now() + HEARTBEAT_EVERY;
                    return Some(Bytes::from_static(HEARTBEAT.as_bytes()));
                }
            }
        }
    }

    fn bindings(&mut self, event: BindingsEvent) -> Bytes {
        self.sent = event.generation;
        self.heartbeat = Instant::now() + HEARTBEAT_EVERY;
        Bytes::from(WatchEvent::Bindings(event).encode())
    }

    /// Asks again before it makes a node wipe: the news may be older than an enrolment after it.
    async fn revoked(&mut self) -> Option<Bytes> {
        self.ended = true;
        let record = self.hub.catalog.node(&self.peer.org, &self.peer.node).await;
        match record {
            Ok(Some(record)) if !record.revoked => {
                // It enrolled anew. The stream ends, and the next one starts from what is true.
                None
            }
            Ok(_) => Some(Bytes::from(WatchEvent::Revoked.encode())),
            // The next call tells.
            Err(_) => None,
        }
    }
}

const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::node::tests::World;

    #[tokio::test]
    async fn a_quiet_stream_is_kept_alive_by_comments() {
        let (world, node) = World::deployed().await;
        let peer = NodePeer {
            org: node.identity.org.clone(),
            node: node.identity.node.clone(),
            address: node.connected.address,
        };
        let mut events = Events::open(Arc::clone(&world.hub), peer, None)
            .await
            .unwrap();
        events.next().await.unwrap();
        for _ in 0..2 {
            // As after a minute without news.
            let due = Instant::now();
            events.heartbeat = due;
            assert_eq!(events.next().await.unwrap(), HEARTBEAT.as_bytes());
            assert!(events.heartbeat > due);
        }
    }
}
