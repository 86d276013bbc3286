//! An authorization server of the tests' own, for faults that a real one does not show on demand; and a store in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Keep;
use crate::config::{OAuth2, OAuthGrant};

/// An application registered at a server whose addresses begin with `base`.
pub(super) fn settings(base: &str) -> OAuth2 {
    OAuth2 {
        client_id: "us".into(),
        client_secret: None,
        grant: OAuthGrant::User,
        key: None,
        subject: "ann@example.org".into(),
        authorize_url: Some(format!("{base}authorize")),
        token_url: format!("{base}token"),
        device_url: Some(format!("{base}device")),
        scopes: vec!["mail".into()],
        parameters: Vec::new(),
        redirect_url: None,
        redirect_host: "127.0.0.1".into(),
        ca_file: None,
    }
}

/// Answers token requests from a list; each is a status and a body. With the list at its end connections are closed unanswered.
pub(super) struct TokenServer {
    pub(super) base: String,
    pub(super) answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    /// The bodies of the requests so far.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let (answers, asked) = (Arc::<Mutex<VecDeque<(u16, String)>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let server = Self { base, answers: Arc::clone(&answers), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut heard = Vec::new();
                let body = loop {
                    if tcp.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                        break None;
                    }
                    let text = String::from_utf8_lossy(&heard).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    if length == Some(body.len()) {
                        break Some(body.to_owned());
                    }
                };
                let Some(body) = body else { continue };
                asked.lock().unwrap().push(body);
                let Some((status, text)) = answers.lock().unwrap().pop_front() else { continue };
                let kind = if text.starts_with('{') { "application/json" } else { "text/html" };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                );
                // A client that has gone is its own affair.
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        });
        server
    }

    pub(super) fn will(&self, status: u16, body: &str) {
        self.answers.lock().unwrap().push_back((status, body.to_owned()));
    }

    /// A token that holds for so many seconds, and a refresh token, or none.
    pub(super) fn will_give(&self, access: &str, seconds: u64, refresh: Option<&str>) {
        let refresh = refresh.map_or_else(String::new, |refresh| format!(",\"refresh_token\":\"{refresh}\""));
        let body =
            format!("{{\"access_token\":\"{access}\",\"token_type\":\"Bearer\",\"expires_in\":{seconds}{refresh}}}");
        self.will(200, &body);
    }

    pub(super) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A store in memory that can be full.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) sealed: Mutex<Option<Vec<u8>>>,
    pub(super) full: AtomicBool,
    /// So many writes more, and it is full; 0 is without end.
    pub(super) room: AtomicUsize,
}

impl Keep for Memory {
    fn read(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, String>> {
        async { Ok(self.sealed.lock().unwrap().clone()) }.boxed()
    }

    fn write(&self, sealed: Vec<u8>) -> BoxFuture<'_, Result<(), String>> {
        async move {
            if self.full.load(Ordering::Relaxed) {
                return Err("the disk is full".into());
            }
            if self.room.load(Ordering::Relaxed) > 0 && self.room.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.full.store(true, Ordering::Relaxed);
            }
            *self.sealed.lock().unwrap() = Some(sealed);
            Ok(())
        }
        .boxed()
    }

    fn lock(&self) -> BoxFuture<'_, Result<File, String>> {
        async { tempfile::tempfile().map_err(|error| error.to_string()) }.boxed()
    }
}
