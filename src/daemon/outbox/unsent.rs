//! A mail program files its own copy of a message that still waits here: the copy waits with it.
//!
//! Whoever files what is sent (the provider, or we) does so when it is sent, and a copy uploaded before would stand beside that one for good.
//! So the upload is taken over, on the disk before it is answered: when the message has gone its way the sent folder is looked at, and the
//! program's copy is stored only where nobody else has filed one, as after a failure.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::{info, warn};

use super::Outbox;
use super::entry::{Entry, File, Folder, What};
use super::spool::{self, Held};
use crate::engine::{Append, Unsent};

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Outbox").field(&self.address).finish()
    }
}

impl Unsent for Outbox {
    fn take_copy<'a>(&'a self, message_id: &'a str, copy: &'a Append) -> BoxFuture<'a, bool> {
        async move {
            match self.copy_taken(message_id, copy).await {
                Ok(is_taken) => is_taken,
                Err(words) => {
                    // It is uploaded, and may stand there twice.
                    warn!(account = %self.address, "a copy of a message that waits cannot be kept with it: {words}");
                    false
                }
            }
        }
        .boxed()
    }
}

impl Outbox {
    async fn copy_taken(&self, message_id: &str, copy: &Append) -> Result<bool, String> {
        let rows = self.durable(|state, key| state.outbox(Some(key))).await?;
        let mut waits = None;
        for row in &rows {
            match Entry::read(row).map(|entry| entry.what) {
                Some(What::File(file)) if file.to == Folder::Sent && file.message_id.as_deref() == Some(message_id) => {
                    return Ok(true);
                }
                Some(What::Send(send)) if !send.silent && send.message_id.as_deref() == Some(message_id) => {
                    waits = Some((row.id, row.item.created));
                }
                _ => {}
            }
        }
        let Some((id, created)) = waits else { return Ok(false) };
        let (dir, content) = (self.dir.clone(), copy.body.clone());
        let written =
            tokio::task::spawn_blocking(move || spool::write(&dir, &content).map(|name| (dir.join(&name), name)));
        let (path, name) = written.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let file = File { after: Some(id), ..File::new(Folder::Sent, Some(message_id.to_owned()), false) };
        // As old as its message: what was filed since then is what is looked for.
        let item = Entry::new(name, What::File(file)).item(self.now(), created, copy.body.len() as u64);
        let added = self.add(item, Held::of(path)).await?;
        if added.is_some() {
            info!(account = %self.address, id, "a mail program's copy of a message that waits is kept with it");
        }
        Ok(added.is_some())
    }
}
