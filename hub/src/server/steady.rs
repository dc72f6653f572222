//! Answers in small pieces, so that it shows when their reader stops reading: a piece is asked for only
//! when there is room to send it. What is not read is held in memory, here or in the system, and must
//! not be held for ever.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The answers of one connection that somebody is reading.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Since when the next piece of an answer has not been asked for.
    waiting: Mutex<Waiting>,
    begun: Notify,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    since: HashMap<u64, Instant>,
}

impl Readers {
    /// The same answer, watched.
    pub(super) fn watch(&self, body: Body) -> Body {
        let number = {
            let mut waiting = self.0.lock();
            waiting.last += 1;
            waiting.last
        };
        if !body.is_end_stream() {
            // Until it is asked for the first time, too.
            self.given(number);
        }
        Body::new(Steady {
            body,
            rest: Bytes::new(),
            readers: self.clone(),
            number,
        })
    }

    /// Ends when an answer has not been read on for `patience`. Costs nothing while none is read.
    pub(super) fn stalled(&self, patience: Duration) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.0);
        async move {
            loop {
                let oldest = shared.lock().since.values().min().copied();
                match oldest {
                    None => shared.begun.notified().await,
                    Some(since) if since.elapsed() >= patience => return,
                    Some(since) => sleep_until(since + patience).await,
                }
            }
        }
    }

    fn given(&self, number: u64) {
        let first = {
            let mut waiting = self.0.lock();
            waiting.since.insert(number, Instant::now());
            waiting.since.len() == 1
        };
        if first {
            self.0.begun.notify_one();
        }
    }

    fn asked(&self, number: u64) {
        self.0.lock().since.remove(&number);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Steady {
    body: Body,
    rest: Bytes,
    readers: Readers,
    number: u64,
}

impl HttpBody for Steady {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.readers.asked(self.number);
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        // The last byte is a piece of its own: that it is asked for shows that what is before it was read.
        let len = match self.rest.remaining() {
            more if more > PIECE => PIECE,
            last if last > 1 && self.body.is_end_stream() => last - 1,
            some => some,
        };
        let piece = self.rest.split_to(len);
        self.readers.given(self.number);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.readers.asked(self.number);
    }
}

/// Most bytes that are handed over at once.
const PIECE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_answer_is_the_same_in_pieces() {
        let readers = Readers::default();
        let text: Vec<u8> = (0..3 * PIECE + 5).map(|at| (at % 251) as u8).collect();
        let mut body = readers.watch(Body::from(text.clone()));
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
            assert_eq!(
                body.size_hint().exact(),
                Some((text.len() - read.len()) as u64)
            );
        }
        assert_eq!(read, text);
        assert!(readers.watch(Body::empty()).is_end_stream());
    }

    /// Neither with no room at all nor with room for all but the end.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_begun_or_not_ended_stalls_too() {
        let readers = Readers::default();
        let unread = readers.watch(Body::from("small"));
        let begun = Instant::now();
        readers.stalled(PATIENCE).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(unread);
        let mut body = readers.watch(Body::from("small"));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "smal");
        assert!(!body.is_end_stream());
        readers.stalled(PATIENCE).await;
        assert_eq!(begun.elapsed(), 2 * PATIENCE);
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(last, "l");
        assert!(body.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_reader_that_leaves_a_piece_lying_stalls() {
        let readers = Readers::default();
        let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(1);
        let events = futures_util::stream::unfold(receive, async |mut receive| {
            let event = receive.recv().await?;
            Some((Ok::<_, std::io::Error>(event), receive))
        });
        let mut watch = readers.watch(Body::from_stream(events));
        let stalled = readers.stalled(PATIENCE);
        tokio::pin!(stalled);
        // Nothing to read, for however long, is no stall.
        assert!(watch.frame().now_or_never().is_none());
        tokio::time::sleep(10 * PATIENCE).await;
        assert!((&mut stalled).now_or_never().is_none());
        // A reader that takes a piece just in time, again and again.
        for _ in 0..3 {
            send.send(Bytes::from_static(b"event")).await.unwrap();
            watch.frame().await.unwrap().unwrap();
            tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
            assert!((&mut stalled).now_or_never().is_none());
            assert!(watch.frame().now_or_never().is_none());
        }
        send.send(Bytes::from_static(b"event")).await.unwrap();
        watch.frame().await.unwrap().unwrap();
        let begun = Instant::now();
        stalled.await;
        assert_eq!(begun.elapsed(), PATIENCE);
        // One that has gone stalls nobody.
        drop(watch);
        assert!(readers.stalled(PATIENCE).now_or_never().is_none());
    }
}
