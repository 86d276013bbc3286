//! The way a submission session is given: straight to the provider, or through what keeps and copies.

use super::passage::Kept;
use crate::session::smtp;
use crate::upstream::smtp::{Passage, Reply};

/// A message's way to the provider.
pub(crate) enum Route {
    Straight(Box<Passage>),
    Kept(Box<Kept>),
}

impl smtp::Passage for Route {
    fn pipelines(&self) -> bool {
        match self {
            Self::Straight(way) => way.pipelines(),
            Self::Kept(way) => way.live.as_ref().is_none_or(|live| live.pipelines()),
        }
    }

    async fn send(&mut self, line: String) -> Result<(), String> {
        let way = match self {
            Self::Straight(way) => return smtp::Passage::send(&mut **way, line).await,
            Self::Kept(way) => way,
        };
        if line == "DATA" && way.live.is_some() && !way.recipients.iter().any(|(_, is_live)| *is_live) {
            // Whoever is left is to be sent to later.
            let why = Reply::new(451, "4.7.1", "no recipient can be sent to now");
            way.away(why, true).await;
        }
        way.asked.push_back(line.clone());
        if let Some(live) = &mut way.live
            && let Err(lost) = live.send(&line).await
        {
            way.live = None;
            if !way.keeps() {
                return Err(lost.to_string());
            }
            way.away(Reply::new(451, "4.4.2", format!("the connection was lost: {lost}")), false).await;
        }
        Ok(())
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        let way = match self {
            Self::Straight(way) => return smtp::Passage::reply(&mut **way).await,
            Self::Kept(way) => way,
        };
        let Some(line) = way.asked.pop_front() else { return Err("nothing was asked".into()) };
        match line.get(..4) {
            Some("MAIL") => way.heard_of_mail(line).await,
            Some("RCPT") => way.heard_of_recipient(line).await,
            _ => way.heard_of_data().await,
        }
    }

    async fn write(&mut self, dotted: &[u8]) -> Result<(), String> {
        match self {
            Self::Straight(way) => smtp::Passage::write(&mut **way, dotted).await,
            Self::Kept(way) => way.pass_on(dotted).await,
        }
    }

    async fn write_last(&mut self, dotted: &[u8]) -> Result<(), String> {
        match self {
            Self::Straight(way) => smtp::Passage::write(&mut **way, dotted).await,
            Self::Kept(way) => way.pass_last(dotted).await,
        }
    }

    fn is_unsent(&self) -> bool {
        matches!(self, Self::Straight(way) if way.is_unsent())
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(way) if way.is_kept)
    }

    async fn verdict(&mut self) -> Result<Reply, String> {
        match self {
            Self::Straight(way) => smtp::Passage::verdict(&mut **way).await,
            Self::Kept(way) => way.outcome().await,
        }
    }

    async fn last_words(&mut self) -> Option<Reply> {
        match self {
            Self::Straight(way) => smtp::Passage::last_words(&mut **way).await,
            Self::Kept(way) => way.refusal.take(),
        }
    }

    async fn rest(self, clean: bool) {
        match self {
            Self::Straight(way) => smtp::Passage::rest(*way, clean).await,
            Self::Kept(mut way) => {
                if let Some(live) = way.live.take() {
                    smtp::Passage::rest(live, clean).await;
                }
            }
        }
    }
}
