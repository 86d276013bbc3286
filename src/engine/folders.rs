//! The list of mailboxes: asked from upstream, kept for an offline start, and the death of what left it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};
use tracing::{Instrument as _, debug, warn};

use super::account::Inner;
use super::error::Error;
use super::looks::{Look, Looks, Outcome};
use crate::model::{Folder, Folders, Role};
use crate::upstream::{Class, Lease, ListLine};

/// A list this young is not asked for again, however many clients LIST.
const FRESH: Duration = Duration::from_secs(5);
/// How long LIST waits for upstream before it serves the list we have.
const LIST_WAIT: Duration = Duration::from_secs(3);
/// Most mailboxes of an account that are taken: a list of 50,000 names is some megabytes.
const MOST: usize = 50_000;
/// The list's key in the store, with the version of its layout.
const BLOB: &str = "folders/1";

/// The newest list and the right to ask for a newer.
#[derive(Debug, Default)]
pub(crate) struct FolderList {
    newest: watch::Sender<Option<Arc<Folders>>>,
    turn: tokio::sync::Mutex<Asked>,
    looks: Arc<Looks<Arc<Folders>>>,
}

#[derive(Debug, Default)]
struct Asked {
    last: Option<Instant>,
    namespace: Option<(Arc<str>, Option<char>)>,
}

/// The list is being changed: nobody else changes it or asks for it meanwhile.
pub(crate) struct Changing<'a> {
    asked: tokio::sync::MutexGuard<'a, Asked>,
    pub(crate) lease: Lease,
}

/// The list as a change has left it, to be taken over; nobody else changes it meanwhile.
pub(crate) struct Changed<'a> {
    _asked: tokio::sync::MutexGuard<'a, Asked>,
    listed: Result<Arc<Folders>, Error>,
}

impl FolderList {
    pub(crate) fn newest(&self) -> Option<Arc<Folders>> {
        self.newest.borrow().clone()
    }
}

impl Inner {
    /// The list: in step if upstream answers in time, else as it was, if it ever was.
    pub(crate) async fn current_folders(self: &Arc<Self>) -> Result<Arc<Folders>, Error> {
        if self.folders.newest().is_none() {
            // A provider that refuses at once must not be quicker than the list on disk.
            self.restore_folders().await;
        }
        let known = self.folders.newest();
        let since = Instant::now().checked_sub(FRESH).unwrap_or_else(Instant::now);
        let asking = self.refresh_folders(since);
        match known {
            None => asking.await,
            Some(known) => match timeout(LIST_WAIT, asking).await {
                Ok(Ok(list)) => Ok(list),
                Ok(Err(_)) | Err(_) => Ok(known),
            },
        }
    }

    /// The name as the mirror knows it, of a mailbox that exists and can be selected.
    pub(crate) async fn resolve(self: &Arc<Self>, name: &str) -> Result<Arc<str>, Error> {
        let mut list = match self.folders.newest() {
            Some(list) => list,
            None => self.current_folders().await?,
        };
        if list.find(name).is_none() {
            // Perhaps made a moment ago by somebody else. Looks are shared: whoever asks for what is not there costs upstream one LIST
            // at a time.
            if let Ok(Ok(newer)) = timeout(LIST_WAIT, self.refresh_folders(Instant::now())).await {
                list = newer;
            }
        }
        match list.find(name) {
            None => Err(Error::NoSuchMailbox(name.to_owned())),
            Some(folder) if folder.noselect => {
                Err(Error::Cannot(format!("{name} holds other mailboxes and no messages")))
            }
            Some(folder) => Ok(Arc::clone(&folder.name)),
        }
    }

    /// Something hints that the list is not what it was; it is asked for in the background.
    pub(crate) fn folders_suspect(self: &Arc<Self>) {
        // A mailbox that cannot be selected says so at every look: it does not have the list asked for at every look too.
        let since = Instant::now().checked_sub(FRESH).unwrap_or_else(Instant::now);
        drop(self.wish_folders(since));
    }

    /// Asks for the list, unless somebody has done so since `since`; shared with all who wish the same. Runs to its end even if the
    /// caller goes away.
    pub(crate) async fn refresh_folders(self: &Arc<Self>, since: Instant) -> Result<Arc<Folders>, Error> {
        self.wish_folders(since).wait().await
    }

    fn wish_folders(self: &Arc<Self>, since: Instant) -> Outcome<Arc<Folders>> {
        let (outcome, look) = self.folders.looks.wish(since, Class::Interactive);
        if let Some(look) = look {
            let account = Arc::clone(self);
            let list = async move {
                let listed = account.list_folders(&look).await;
                if let Err(error) = &listed {
                    debug!(account = %account.label(), %error, "the list of mailboxes cannot be had now");
                }
                look.end(listed);
            };
            self.tasks.spawn(list.in_current_span());
        }
        outcome
    }

    async fn list_folders(self: &Arc<Self>, look: &Look<Arc<Folders>>) -> Result<Arc<Folders>, Error> {
        let mut asked = self.folders.turn.lock().await;
        if let Some(list) = self.folders.newest()
            && look.is_answered(asked.last)
        {
            return Ok(list);
        }
        let mut lease = self.pool.lease(Class::Interactive, None).await?;
        look.begin();
        let list = self.list_over(&mut lease, &mut asked).await?;
        drop(lease);
        self.take_folders(&list).await;
        Ok(list)
    }

    /// The right to change the list, and the session to do it over.
    pub(crate) async fn change_folders(&self) -> Result<Changing<'_>, Error> {
        let asked = self.folders.turn.lock().await;
        let lease = self.pool.lease(Class::Interactive, None).await?;
        Ok(Changing { asked, lease })
    }

    /// Upstream has changed the list: takes over what it is now.
    pub(crate) async fn folders_changed(self: &Arc<Self>, changing: Changing<'_>) {
        let changed = self.list_changed(changing).await;
        self.take_changed(changed).await;
    }

    /// Upstream has changed the list: asks for it over the same session, since another one may go on with what was before (a Dovecot under
    /// load does, and a mailbox just created would not be there), and gives the session back: a mailbox's turn may be taken then.
    pub(crate) async fn list_changed<'a>(&self, changing: Changing<'a>) -> Changed<'a> {
        let Changing { mut asked, mut lease } = changing;
        self.seen_upstream();
        let listed = self.list_over(&mut lease, &mut asked).await;
        Changed { _asked: asked, listed }
    }

    pub(crate) async fn take_changed(self: &Arc<Self>, changed: Changed<'_>) {
        match changed.listed {
            Ok(list) => self.take_folders(&list).await,
            // Upstream has done it; a list that cannot be had now comes later.
            Err(error) => warn!(account = %self.label(), %error, "the list of mailboxes cannot be had now"),
        }
    }

    async fn list_over(&self, lease: &mut Lease, asked: &mut Asked) -> Result<Arc<Folders>, Error> {
        let started = Instant::now();
        let (prefix, delimiter) = match &asked.namespace {
            Some(known) => known.clone(),
            None => {
                let (prefix, delimiter) = lease.namespace_prefix().await?;
                asked.namespace.insert((prefix.into(), delimiter)).clone()
            }
        };
        let lines = lease.list().await?;
        self.seen_upstream();
        let list = Arc::new(build(lines, prefix, delimiter));
        if list.find("INBOX").is_none() {
            // INBOX always exists (RFC 9051 §5.1): a list without it is no list, and must not cost every cache.
            return Err(Error::Unavailable("The provider's list of mailboxes is not complete".into()));
        }
        asked.last = Some(started);
        Ok(list)
    }

    /// Reads the list of the last run, so that clients are served before upstream answers.
    pub(crate) async fn restore_folders(self: &Arc<Self>) {
        let kept = self.disk(|store| store.blob(BLOB)).await;
        if let Ok(Some(kept)) = kept
            && let Some(list) = decode(&kept)
        {
            self.folders.newest.send_if_modified(|newest| {
                let first = newest.is_none();
                if first {
                    *newest = Some(Arc::new(list));
                }
                first
            });
        }
    }

    /// Writes the newest list to the store.
    pub(crate) async fn keep_folders(&self) {
        let Some(list) = self.folders.newest() else { return };
        let bytes = encode(&list);
        // A failure is told by `disk`; the list is asked for again at the next start.
        let _ = self.disk(move |store| store.put_blob(BLOB, &bytes)).await;
    }

    async fn take_folders(self: &Arc<Self>, list: &Arc<Folders>) {
        let old = self.folders.newest.send_replace(Some(Arc::clone(list)));
        if old.as_deref() == Some(list.as_ref()) {
            return;
        }
        self.keep_folders().await;
        let now: BTreeSet<&str> =
            list.list.iter().filter(|folder| !folder.noselect).map(|folder| &*folder.name).collect();
        for folder in old.iter().flat_map(|old| &old.list) {
            if now.contains(&*folder.name) || folder.noselect {
                continue;
            }
            if let Some(state) = self.known_state(&folder.name) {
                self.forget(&state);
                state.stored().await;
            }
            let name = folder.name.to_string();
            let _ = self.disk(move |store| store.mailbox_id(&name).and_then(|id| store.remove_mailbox(id))).await;
        }
    }
}

/// Makes the list from what LIST and LSUB said: one entry a name, INBOX in capitals and first.
fn build(lines: Vec<ListLine>, prefix: Arc<str>, delimiter: Option<char>) -> Folders {
    let mut found: BTreeMap<String, Folder> = BTreeMap::new();
    let mut subscribed: BTreeSet<String> = BTreeSet::new();
    for line in lines.into_iter().take(2 * MOST) {
        let name = canonical(&line.name);
        if name.is_empty() || name.chars().any(char::is_control) {
            continue;
        }
        let has = |attribute: &str| line.attributes.iter().any(|known| known.eq_ignore_ascii_case(attribute));
        if line.lsub || has("\\Subscribed") {
            subscribed.insert(name.clone());
        }
        if line.lsub || (has("\\NonExistent") && !has("\\HasChildren")) {
            continue;
        }
        let role = line.attributes.iter().find_map(|attribute| Role::from_attribute(attribute));
        found.insert(
            name.clone(),
            Folder {
                name: name.into(),
                delimiter: line.delimiter,
                noselect: has("\\Noselect") || has("\\NonExistent"),
                noinferiors: has("\\Noinferiors"),
                subscribed: false,
                role,
            },
        );
    }
    let dangling =
        subscribed.iter().filter(|name| !found.contains_key(*name)).map(|name| name.as_str().into()).collect();
    let mut list: Vec<Folder> =
        found.into_values().map(|folder| Folder { subscribed: subscribed.contains(&*folder.name), ..folder }).collect();
    list.sort_by(|a, b| (&*a.name != "INBOX", &a.name).cmp(&(&*b.name != "INBOX", &b.name)));
    let delimiter = delimiter.or_else(|| list.iter().find_map(|folder| folder.delimiter));
    Folders { list, delimiter, prefix, dangling }
}

/// INBOX in capitals (RFC 9051 §5.1), everything else as it is.
pub(crate) fn canonical(name: &str) -> String {
    if name.eq_ignore_ascii_case("INBOX") { "INBOX".into() } else { name.into() }
}

/// A line a folder: letters for its properties, its delimiter, its role, its name; all of them without tabs or line ends.
fn encode(list: &Folders) -> Vec<u8> {
    let delimiter = |delimiter: Option<char>| delimiter.map(String::from).unwrap_or_default();
    let mut out = format!("{}\t{}\n", list.prefix, delimiter(list.delimiter));
    for folder in &list.list {
        let flags: String = [(folder.noselect, 'x'), (folder.noinferiors, 'i'), (folder.subscribed, 's')]
            .into_iter()
            .filter_map(|(on, letter)| on.then_some(letter))
            .collect();
        let role = folder.role.map_or("", Role::attribute);
        out.push_str(&format!("{flags}\t{}\t{role}\t{}\n", delimiter(folder.delimiter), folder.name));
    }
    for name in &list.dangling {
        out.push_str(&format!("?\t\t\t{name}\n"));
    }
    out.into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Folders> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let (prefix, delimiter) = lines.next()?.split_once('\t')?;
    let mut list = Folders { prefix: prefix.into(), delimiter: delimiter.chars().next(), ..Folders::default() };
    for line in lines {
        let mut parts = line.splitn(4, '\t');
        let (flags, delimiter, role, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if flags == "?" {
            list.dangling.push(name.into());
            continue;
        }
        list.list.push(Folder {
            name: name.into(),
            delimiter: delimiter.chars().next(),
            noselect: flags.contains('x'),
            noinferiors: flags.contains('i'),
            subscribed: flags.contains('s'),
            role: Role::from_attribute(role),
        });
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, attributes: &[&str], lsub: bool) -> ListLine {
        ListLine {
            attributes: attributes.iter().map(ToString::to_string).collect(),
            delimiter: Some('/'),
            name: name.into(),
            lsub,
        }
    }

    #[test]
    fn list_and_lsub_become_one_list_that_survives_the_store() {
        let list = build(
            vec![
                line("Sent", &["\\HasNoChildren", "\\Sent"], false),
                line("inbox", &["\\HasChildren"], false),
                line("[Gmail]", &["\\Noselect", "\\HasChildren"], false),
                line("gone", &[], true),
                line("Sent", &[], true),
                line("odd\r\nname", &[], false),
            ],
            "".into(),
            None,
        );
        let names: Vec<&str> = list.list.iter().map(|folder| &*folder.name).collect();
        assert_eq!(names, ["INBOX", "Sent", "[Gmail]"]);
        assert_eq!(list.by_role(Role::Sent).map(|folder| folder.subscribed), Some(true));
        assert_eq!(list.dangling, ["gone".into()]);
        assert_eq!(list.delimiter, Some('/'));
        assert_eq!(decode(&encode(&list)), Some(list));
    }
}
