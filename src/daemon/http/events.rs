//! What changes on the page, told as it changes (server-sent events, HTML Living Standard §9.2).
//!
//! All who listen share one view of the moment, made once a second at most. Each is told the regions that are others than it has; a
//! comment when nothing was for a while, so that neither end believes the other gone. Their number is bounded (Law 8), and an answer ends
//! by itself before the connection's time is up: the browser asks again.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Source;
use super::page::View;

/// How often is looked: what moves is seen to move.
const LOOK: Duration = Duration::from_secs(1);
/// Who listens at once: some windows of some owners. Each also has a connection, of which there are few more.
const LISTENERS: usize = 16;
/// A word at least this often: routers forget what is silent for longer, and a peer that has gone is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The longest answer, below a connection's time.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What those who listen share.
pub(super) struct Feed {
    source: Arc<dyn Source>,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    newest: Mutex<Option<(Instant, Arc<View>)>>,
}

impl Feed {
    pub(super) fn new(source: Arc<dyn Source>, stop: CancellationToken) -> Self {
        Self { source, stop, places: Arc::new(Semaphore::new(LISTENERS)), newest: Mutex::default() }
    }

    /// The page's contents, not older than a moment.
    pub(super) fn view(&self) -> Arc<View> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match newest.as_ref().filter(|(at, _)| at.elapsed() < LOOK / 2) {
            Some((_, view)) => Arc::clone(view),
            None => {
                let view = Arc::new(View::of(&self.source.status()));
                *newest = Some((Instant::now(), Arc::clone(&view)));
                view
            }
        }
    }
}

/// `GET /events`.
pub(super) async fn events(State(feed): State<Arc<Feed>>, headers: HeaderMap) -> Response {
    // Another site's page could not read it, but could take the places.
    if super::is_foreign(&headers) {
        return (StatusCode::FORBIDDEN, "For the status page only.\n").into_response();
    }
    let Ok(place) = Arc::clone(&feed.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many windows show this page live.\n").into_response();
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let listener = Listener {
        stop: feed.stop.clone(),
        feed,
        ticks,
        told: Vec::new(),
        shape: None,
        end: now + LONGEST,
        said: now,
        _place: place,
    };
    let words = stream::unfold(listener, |mut listener| async move {
        let words = listener.next().await?;
        Some((Ok::<_, Infallible>(words), listener))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(words)).into_response()
}

/// Somebody who listens.
struct Listener {
    feed: Arc<Feed>,
    stop: CancellationToken,
    ticks: tokio::time::Interval,
    told: Vec<(String, String)>,
    shape: Option<String>,
    end: Instant,
    said: Instant,
    _place: OwnedSemaphorePermit,
}

/// One event's data.
#[derive(Serialize)]
struct News<'a> {
    shape: &'a str,
    title: &'a str,
    regions: Vec<(&'a str, &'a str)>,
}

impl Listener {
    /// The next words; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                _ = self.ticks.tick() => {}
            }
            let now = Instant::now();
            if now >= self.end {
                return None;
            }
            let view = self.feed.view();
            if let Some(words) = self.news(&view) {
                self.said = now;
                return Some(words);
            }
            if now.duration_since(self.said) >= KEEP_ALIVE {
                self.said = now;
                return Some(Bytes::from_static(b":\n\n"));
            }
        }
    }

    fn news(&mut self, view: &View) -> Option<Bytes> {
        let news: Vec<(&str, &str)> = view
            .regions
            .iter()
            .filter(|region| !self.told.contains(region))
            .map(|(id, html)| (id.as_str(), html.as_str()))
            .collect();
        if news.is_empty() && self.shape.as_ref() == Some(&view.shape) {
            return None;
        }
        // Strings only, so this serialises always; JSON has no bare line ends, which would end the event.
        let data = serde_json::to_string(&News { shape: &view.shape, title: &view.title, regions: news });
        let data = data.unwrap_or_default();
        self.told.clone_from(&view.regions);
        self.shape = Some(view.shape.clone());
        Some(Bytes::from(format!("event: regions\nretry: 2000\ndata: {data}\n\n")))
    }
}
