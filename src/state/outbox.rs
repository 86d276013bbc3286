//! Messages accepted and not yet where they are to go. A row is there before anybody is told that the message is accepted, and every
//! step that decides about it is one commit. What a payload means is the daemon's business.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{Error, State, signed, unsigned};

/// What stands in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Ascending, never used twice.
    pub id: i64,
    pub account: String,
    pub item: OutboxItem,
}

/// One row's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxItem {
    /// When it is to be looked at next; to the second, as are all times here.
    pub due: SystemTime,
    pub created: SystemTime,
    /// What it takes on the disk beside this row; 0 for what does not count against a limit.
    pub octets: u64,
    pub payload: Vec<u8>,
}

/// How much of an account's may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxRoom {
    pub messages: u64,
    pub octets: u64,
}

/// What an account has waiting, notifications and copies among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSum {
    pub account: String,
    pub rows: u64,
    pub octets: u64,
    pub oldest: SystemTime,
}

const COLUMNS: &str = "id, account, due, created, octets, payload";

impl State {
    /// Adds rows, all or none; on the disk when this returns. `None`: there is no room for them.
    pub fn outbox_add(
        &self,
        account: &str,
        items: &[OutboxItem],
        room: Option<OutboxRoom>,
    ) -> Result<Option<Vec<i64>>, Error> {
        self.connections.write(|db| {
            if let Some(room) = room {
                let used = used(db, account)?;
                let octets: u64 = items.iter().map(|item| item.octets).sum();
                if used.messages >= room.messages || used.octets.saturating_add(octets) > room.octets {
                    return Ok(None);
                }
            }
            items.iter().map(|item| add(db, account, item)).collect::<rusqlite::Result<_>>().map(Some)
        })
    }

    /// Messages that count against a limit, and what they take.
    pub fn outbox_used(&self, account: &str) -> Result<OutboxRoom, Error> {
        self.connections.read(|db| used(db, account))
    }

    /// Goes on with a row: as another one, or (`None`) not at all; and adds what comes of it. False if it was taken away meanwhile: nothing has
    /// changed then, and what it says must not be done.
    pub fn outbox_go_on(&self, id: i64, next: Option<&OutboxItem>, more: &[OutboxItem]) -> Result<bool, Error> {
        self.connections.write(|db| {
            let sql = "SELECT account FROM outbox WHERE id = ?";
            let account: Option<String> = db.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
            let Some(account) = account else { return Ok(false) };
            match next {
                Some(item) => {
                    let sql = "UPDATE outbox SET due = ?, octets = ?, payload = ? WHERE id = ?";
                    db.prepare_cached(sql)?.execute(params![
                        seconds(item.due),
                        signed(item.octets),
                        item.payload,
                        id
                    ])?;
                }
                None => drop(db.prepare_cached("DELETE FROM outbox WHERE id = ?")?.execute([id])?),
            }
            for item in more {
                add(db, &account, item)?;
            }
            Ok(true)
        })
    }

    /// An account's rows, oldest first; of all accounts without one.
    pub fn outbox(&self, account: Option<&str>) -> Result<Vec<OutboxRow>, Error> {
        self.connections.read(|db| {
            let sql = format!("SELECT {COLUMNS} FROM outbox WHERE ?1 IS NULL OR account = ?1 ORDER BY id");
            let mut rows = db.prepare_cached(&sql)?;
            rows.query_map([account], row)?.collect()
        })
    }

    /// What waits, by account.
    pub fn outbox_sums(&self) -> Result<Vec<OutboxSum>, Error> {
        self.connections.read(|db| {
            let sql =
                "SELECT account, count(*), sum(octets), min(created) FROM outbox GROUP BY account ORDER BY account";
            let sum = |row: &Row<'_>| {
                let (rows, octets) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
                Ok(OutboxSum { account: row.get(0)?, rows, octets, oldest: time(row.get(3)?) })
            };
            let mut rows = db.prepare_cached(sql)?;
            rows.query_map([], sum)?.collect()
        })
    }

    /// Has rows looked at now: this one, or all (of an account). How many.
    pub fn outbox_retry(&self, id: Option<i64>, account: Option<&str>, now: SystemTime) -> Result<u64, Error> {
        self.connections.write(|db| {
            let sql = "UPDATE outbox SET due = ?3 WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR account = ?2)";
            Ok(db.prepare_cached(sql)?.execute(params![id, account, seconds(now)])? as u64)
        })
    }
}

fn used(db: &Connection, account: &str) -> rusqlite::Result<OutboxRoom> {
    let sql = "SELECT count(*), coalesce(sum(octets), 0) FROM outbox WHERE account = ? AND octets > 0";
    db.prepare_cached(sql)?
        .query_row([account], |row| Ok(OutboxRoom { messages: unsigned(row.get(0)?), octets: unsigned(row.get(1)?) }))
}

fn add(db: &Transaction<'_>, account: &str, item: &OutboxItem) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO outbox (account, due, created, octets, payload) VALUES (?, ?, ?, ?, ?)";
    let OutboxItem { due, created, octets, payload } = item;
    db.prepare_cached(sql)?.execute(params![account, seconds(*due), seconds(*created), signed(*octets), payload])?;
    Ok(db.last_insert_rowid())
}

fn row(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let item = OutboxItem {
        due: time(row.get(2)?),
        created: time(row.get(3)?),
        octets: unsigned(row.get(4)?),
        payload: row.get(5)?,
    };
    Ok(OutboxRow { id: row.get(0)?, account: row.get(1)?, item })
}

fn seconds(time: SystemTime) -> i64 {
    signed(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unsigned(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(due: u64, octets: u64, payload: &str) -> OutboxItem {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        OutboxItem { due: at(due), created: at(1), octets, payload: payload.into() }
    }

    #[test]
    fn what_is_accepted_survives_and_what_is_dropped_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let room = OutboxRoom { messages: 3, octets: 100 };
        let ids = {
            let state = State::open(&path).unwrap();
            let mut ids = Vec::new();
            for (octets, fits) in [(40, true), (61, false), (60, true), (1, false)] {
                let added = state.outbox_add("ann", &[item(5, octets, "a")], Some(room)).unwrap();
                assert_eq!(added.is_some(), fits, "{octets}");
                ids.extend(added.unwrap_or_default());
            }
            // What is ours to tell always has room, and takes none.
            ids.extend(state.outbox_add("ann", &[item(7, 0, "told")], None).unwrap().unwrap());
            state.outbox_add("bob", &[item(5, 100, "b")], Some(room)).unwrap().unwrap();
            ids
        };
        let state = State::open(&path).unwrap();
        assert_eq!(state.outbox_used("ann").unwrap(), OutboxRoom { messages: 2, octets: 100 });
        assert_eq!(state.outbox(None).unwrap().len(), 4);
        let sums: Vec<_> =
            state.outbox_sums().unwrap().into_iter().map(|sum| (sum.account, sum.rows, sum.octets)).collect();
        assert_eq!(sums, [("ann".to_owned(), 3, 100), ("bob".to_owned(), 1, 100)]);
        assert!(state.outbox_go_on(ids[0], Some(&item(9, 40, "changed")), &[]).unwrap());
        assert!(state.outbox_go_on(ids[1], None, &[item(6, 0, "came of it")]).unwrap());
        assert!(!state.outbox_go_on(ids[1], Some(&item(9, 1, "late")), &[item(1, 0, "late")]).unwrap());
        let rows = state.outbox(Some("ann")).unwrap();
        let told = |row: &OutboxRow| String::from_utf8(row.item.payload.clone()).unwrap();
        assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), ["changed", "told", "came of it"]);
        assert_eq!(rows[0], OutboxRow { id: ids[0], account: "ann".into(), item: item(9, 40, "changed") });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
        assert_eq!(state.outbox_retry(Some(ids[0]), Some("bob"), now).unwrap(), 0);
        assert_eq!(state.outbox_retry(None, Some("ann"), now).unwrap(), 3);
        assert!(state.outbox(Some("ann")).unwrap().iter().all(|row| row.item.due == now));
    }
}
