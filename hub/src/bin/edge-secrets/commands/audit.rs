//! `edge-secrets audit …`

use edge_secrets_hub::wire::{AuditInfo, paths};
use jiff::Timestamp;

use super::Session;
use super::follow::Follower;
use crate::cli::AuditArgs;
use crate::client::{Target, at};
use crate::error::Error;
use crate::output::Table;

pub(super) async fn run(args: AuditArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let since = args.since.resolve(session.ui.now());
    if args.follow {
        follow(since, session).await
    } else {
        list(since, session).await
    }
}

async fn list(since: Timestamp, session: &mut Session<'_>) -> Result<(), Error> {
    let mut records: Vec<AuditInfo> = Vec::new();
    loop {
        let page: Vec<AuditInfo> = session
            .client
            .get(page_after(last(&records), since, session))
            .await?;
        let Some(newest) = page.last() else {
            break;
        };
        if newest.seq <= last(&records) {
            return Err(Error::Answer("the same question again".to_owned()));
        }
        records.extend(page);
        if records.len() > MOST_AT_ONCE {
            return Err(Error::Failed(format!(
                "there are more than {MOST_AT_ONCE} records: ask for a shorter time with --since, \
                 or stream them with --follow"
            )));
        }
    }
    session
        .ui
        .show_list(&records, "There are no records of that time.", |_| {
            let mut table = Table::new(HEADERS);
            for record in &records {
                table.row(cells(record));
            }
            table.render()
        })
}

async fn follow(since: Timestamp, session: &mut Session<'_>) -> Result<(), Error> {
    // Whether the hub is there at all should be known at once.
    let mut page: Vec<AuditInfo> = session.client.get(page_after(0, since, session)).await?;
    let mut follower = Follower::default();
    let mut after = 0;
    loop {
        for record in &page {
            session.ui.show_next(record, |_| line(record))?;
            after = after.max(record.seq);
        }
        page = follower
            .ask(page_after(after, since, session), session)
            .await?;
    }
}

fn page_after(after: u64, since: Timestamp, session: &Session<'_>) -> Target {
    at(paths::AUDIT, &[session.client.org().as_str()])
        .with("after", after)
        .with("since", since)
        .with("limit", PAGE)
}

fn last(records: &[AuditInfo]) -> u64 {
    records.last().map_or(0, |record| record.seq)
}

fn cells(record: &AuditInfo) -> [String; 7] {
    [
        time(record.at),
        record.actor.clone(),
        record.action.clone(),
        record.object.clone(),
        record.result.clone(),
        record.detail.clone(),
        record.peer.clone(),
    ]
}

/// A record as one line of a stream, whose columns cannot wait for the widest.
fn line(record: &AuditInfo) -> String {
    let [at, actor, action, object, result, detail, peer] =
        cells(record).map(|cell| cell.replace('\n', "\\n"));
    let text = format!("{at}  {actor:<20}  {action:<16}  {result:<8}  {object}  {detail}  {peer}");
    format!("{}\n", text.trim_end())
}

/// To the second, as RFC 3339.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

const HEADERS: [&str; 7] = [
    "TIME", "WHO", "ACTION", "OBJECT", "RESULT", "DETAIL", "FROM",
];
const PAGE: u32 = 1000;
const MOST_AT_ONCE: usize = 100_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let record: AuditInfo = serde_json::from_value(json!({
            "seq": 7, "at": "2026-03-01T12:00:00.123Z", "actor": "user/alice",
            "action": "secret.set", "object": "db", "result": "ok",
            "detail": "version 3\nforged", "peer": "127.0.0.1:5",
        }))
        .unwrap();
        assert_eq!(
            line(&record),
            "2026-03-01T12:00:00Z  user/alice            secret.set        ok        db  \
             version 3\\nforged  127.0.0.1:5\n"
        );
    }
}
