use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::{Code, ErrorClass, Failure};
use crate::model::{LocationKey, SourceKey};
use crate::registry::{
    Access, Credentials, DeletionPermit, JournalKind, MailboxConnection, SharePointConnection,
    SourceConnection, Tenant,
};
use crate::schedule::FailureStreak;

/// Format 1 as this build writes it. A later build must read it; a change of this text is a change of the format.
const FORMAT_1: &str = include_str!("fixtures/format-1.jsonl");

fn at(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap()
}

fn failure(detail: &str) -> Failure {
    Failure::new(ErrorClass::Refused, Code::ExchangeMailboxMissing, detail)
}

fn tenant(id: &str) -> Tenant {
    let credentials = Credentials::Basic {
        user: "contoso\\svc".to_owned(),
        password: "env:CONTOSO".parse().unwrap(),
    };
    Tenant {
        id: id.parse().unwrap(),
        display_name: "Contoso \"GmbH\"".to_owned(),
        enabled: true,
        time_zone: "Europe/Berlin".to_owned(),
        source: SourceConnection::SharePoint(SharePointConnection {
            sites: vec!["https://sp.contoso.example/sites/a".parse().unwrap()],
            credentials: credentials.clone(),
        }),
        mailbox: MailboxConnection::Ews {
            url: "https://mail.contoso.example/EWS/Exchange.asmx".parse().unwrap(),
            credentials,
            access: Access::Auto,
        },
        policy: crate::plan::Policy::default(),
        test: None,
    }
}

fn person(user: &str) -> PersonRecord {
    PersonRecord {
        tenant: "contoso".parse().unwrap(),
        user: user.parse().unwrap(),
        source_login: format!("i:0#.w|contoso\\{user}"),
        mailbox: format!("{user}@contoso.example").parse().unwrap(),
        time_zone: None,
        opted_in_at: at(1_795_000_000_000_123),
        disabled: None,
        permit: None,
        stamp: None,
        state: None,
    }
}

fn full_person(user: &str) -> PersonRecord {
    PersonRecord {
        time_zone: Some("W. Europe Standard Time".to_owned()),
        disabled: Some(DisabledRecord {
            since: at(5),
            failure: failure("no mailbox"),
        }),
        permit: Some(DeletionPermit {
            plan: "0123".to_owned(),
            until: at(6),
        }),
        stamp: Some(StampRecord {
            stamp: at(7),
            last_success: Some(at(8)),
            failing: Some(FailureStreak {
                since: at(9),
                attempts: 3,
                failure: failure("line\nbreak"),
            }),
        }),
        state: Some(StateRecord {
            version: 7,
            content: Some(StateContent {
                fingerprint: vec![0, 255],
                state: b"state".to_vec(),
            }),
        }),
        ..person(user)
    }
}

/// Returns one record of each kind, with every member.
fn one_of_each() -> Vec<BackupRecord> {
    vec![
        BackupRecord::Tenant(Box::new(tenant("contoso"))),
        BackupRecord::Person(Box::new(full_person("ana"))),
        BackupRecord::Person(Box::new(PersonRecord {
            state: Some(StateRecord {
                version: 4,
                content: None,
            }),
            ..person("ben")
        })),
        BackupRecord::Alert(Box::new(AlertRecord {
            since: at(10),
            tenant: "contoso".parse().unwrap(),
            user: Some("ana".parse().unwrap()),
            code: "deletions-held".to_owned(),
            failure: failure("held"),
            evidence: Some(json!({"deletions": 12})),
        })),
        BackupRecord::LocationAlert(Box::new(LocationAlertRecord {
            since: at(11),
            confirmed: at(12),
            tenant: "contoso".parse().unwrap(),
            location: LocationKey::from_stored("sp|x"),
            failure: failure("denied"),
        })),
        BackupRecord::Journal(Box::new(JournalRecord {
            at: at(13),
            tenant: "fabrikam".parse().unwrap(),
            user: "zoe".parse().unwrap(),
            task: SourceKey::from_stored("sp|x|1"),
            kind: JournalKind::from("of_tomorrow".to_owned()),
            before: Some(json!({"title": "Old"})),
            after: None,
        })),
    ]
}

fn header(records: &[BackupRecord]) -> BackupHeader {
    let mut counts = RecordCounts::new();
    for record in records {
        *counts.entry(record.kind().to_owned()).or_default() += 1;
    }
    BackupHeader {
        format: BACKUP_FORMAT,
        build: "0.1.0".to_owned(),
        installation: "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa".parse().unwrap(),
        made_at: at(1_795_000_000_000_456),
        moved: false,
        records: counts,
        skippable: Vec::new(),
    }
}

fn written_with(header: BackupHeader, records: &[BackupRecord]) -> String {
    let mut writer = BackupWriter::begin(Vec::new(), header).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
    String::from_utf8(writer.finish().unwrap().0).unwrap()
}

fn written(records: &[BackupRecord]) -> String {
    written_with(header(records), records)
}

/// Returns the text with another last line, that matches the changed lines before it.
fn sealed_again(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let kept = &lines[..lines.len() - 1];
    let body: String = kept.iter().flat_map(|line| [line, "\n"]).collect();
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(body.as_bytes());
    let sha256 = super::write::hexadecimal(digest);
    format!(
        "{body}{{\"end\":{{\"lines\":{},\"sha256\":\"{sha256}\"}}}}\n",
        kept.len()
    )
}

fn read(text: &str) -> Result<(Vec<BackupRecord>, BackupSummary), BackupError> {
    let mut reader = BackupReader::open(text.as_bytes())?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok((records, reader.summary()?))
}

#[test]
fn every_record_is_read_back() {
    let records = one_of_each();
    let (back, summary) = read(&written(&records)).unwrap();
    assert_eq!(back, records);
    assert_eq!(summary.header, header(&records));
    assert_eq!(summary.skipped, RecordCounts::new());
    let kinds: Vec<&str> = BackupRecord::KINDS.to_vec();
    for record in &records {
        assert!(kinds.contains(&record.kind()));
    }
    assert_eq!(read(&written(&[])).unwrap().0, []);
}

#[test]
fn format_1_stays_readable_and_is_what_this_build_writes() {
    assert_eq!(written(&one_of_each()), FORMAT_1);
    assert_eq!(read(FORMAT_1).unwrap().0, one_of_each());
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused() {
    let text = written(&one_of_each());
    for length in 0..text.len() {
        let Some(part) = text.get(..length) else { continue };
        let error = read(part).unwrap_err();
        assert!(
            matches!(error, BackupError::CutOff { .. } | BackupError::NotABackup),
            "cut at {length}: {error}"
        );
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let text = written(&one_of_each());
    let changed = text.replace("sites/a", "sites/b");
    assert!(matches!(read(&changed), Err(BackupError::Altered)));
    let lines: Vec<&str> = text.lines().collect();
    let without_one = [&lines[..2], &lines[3..]].concat().join("\n") + "\n";
    assert!(matches!(read(&without_one), Err(BackupError::Altered)));
    // Even if the digest was computed anew, the header still names the number of records.
    let error = read(&sealed_again(&without_one)).unwrap_err();
    assert!(
        matches!(&error, BackupError::Miscounted { kind, announced: 2, present: 1 } if kind == "person"),
        "{error}"
    );
    let twice = format!("{text}{text}");
    assert!(matches!(read(&twice), Err(BackupError::AfterEnd { line: 8 })));
}

#[test]
fn what_a_later_build_wrote_is_refused_or_skipped_by_rule() {
    let records = one_of_each();
    let later = written(&records).replacen("\"format\":1", "\"format\":2,\"of_tomorrow\":true", 1);
    let error = read(&later).unwrap_err();
    assert!(matches!(error, BackupError::LaterFormat { format: 2, .. }));
    assert!(
        error.to_string().contains("build 0.1.0 or a newer one"),
        "{error}"
    );

    // A member that this build does not know.
    let member = sealed_again(&written(&records).replacen(
        "\"mailbox\":\"ana",
        "\"of_tomorrow\":1,\"mailbox\":\"ana",
        1,
    ));
    let error = read(&member).unwrap_err().to_string();
    assert!(
        error.contains("line 3") && error.contains("of_tomorrow"),
        "{error}"
    );

    // A kind that this build does not know.
    let with_kind = |skippable: &[&str]| {
        let mut header = header(&records);
        header.records.insert("audit".to_owned(), 1);
        header.skippable = skippable.iter().map(|kind| (*kind).to_owned()).collect();
        let mut lines: Vec<String> = written(&records).lines().map(str::to_owned).collect();
        lines[0] = serde_json::to_string(&json!({"header": header})).unwrap();
        lines.insert(3, "{\"audit\":{\"x\":1}}".to_owned());
        sealed_again(&(lines.join("\n") + "\n"))
    };
    let error = read(&with_kind(&[])).unwrap_err();
    assert!(matches!(&error, BackupError::UnknownKind { line: 4, kind } if kind == "audit"));
    let (back, summary) = read(&with_kind(&["audit"])).unwrap();
    assert_eq!(back, records);
    assert_eq!(summary.skipped, RecordCounts::from([("audit".to_owned(), 1)]));
}

#[test]
fn what_is_no_backup_is_refused_with_a_hint() {
    for text in ["", "\n", "SQLite format 3\0", "{\"person\":{}}\n", "[]\n", "{}\n"] {
        let error = read(text).unwrap_err();
        assert!(matches!(error, BackupError::NotABackup), "{text:?}: {error}");
        assert!(error.to_string().contains("tasksync backup"));
    }
    for line in ["", "[]", "{}", "{\"person\":{},\"journal\":{}}", "\u{0}"] {
        let mut lines: Vec<String> = written(&one_of_each()).lines().map(str::to_owned).collect();
        lines.insert(2, line.to_owned());
        let error = read(&(lines.join("\n") + "\n")).unwrap_err();
        assert!(
            matches!(error, BackupError::Wrong { line: 3, .. }),
            "{line:?}: {error}"
        );
    }
}

#[test]
fn an_endless_line_is_refused_before_it_fills_the_memory() {
    let text = written(&one_of_each());
    let longest = text.lines().map(str::len).max().unwrap() + 1;
    let reader = |limit| {
        BackupReader::with_longest_line(text.as_bytes(), limit)
            .unwrap()
            .summary()
    };
    assert!(reader(longest).is_ok());
    assert!(matches!(reader(longest - 1), Err(BackupError::LongLine { .. })));
}

#[test]
fn a_writer_that_lost_a_record_does_not_finish() {
    let records = one_of_each();
    let mut writer = BackupWriter::begin(Vec::new(), header(&records)).unwrap();
    for record in &records[1..] {
        writer.write(record).unwrap();
    }
    let error = writer.finish().map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, BackupError::Miscounted { kind, announced: 1, present: 0 } if kind == "tenant"),
        "{error}"
    );
}

#[test]
fn a_copy_syncs_nothing_by_itself_and_remembers_no_item_of_the_original() {
    let copied: Vec<BackupRecord> = one_of_each()
        .into_iter()
        .filter_map(BackupRecord::for_copy)
        .collect();
    let kinds: Vec<&str> = copied.iter().map(BackupRecord::kind).collect();
    assert_eq!(kinds, ["tenant", "person", "person", "journal"]);
    for record in copied {
        if let BackupRecord::Tenant(tenant) = record {
            assert!(!tenant.enabled);
        } else if let BackupRecord::Person(person) = record {
            assert_eq!(person.permit, None);
            let state = person.state.unwrap();
            assert!(state.content.is_none() && state.version > 0);
            assert!(person.stamp.is_none_or(|stamp| stamp.failing.is_none()));
        }
    }
}

fn timestamps() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000_000_000).prop_map(at)
}

fn texts() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..12).prop_map(|letters| letters.into_iter().collect())
}

prop_compose! {
    fn people()(
        name in "[a-z0-9]{1,20}",
        zone in proptest::option::of(texts()),
        login in texts(),
        opted_in_at in timestamps(),
        disabled in proptest::option::of((timestamps(), texts())),
        permit in proptest::option::of((timestamps(), texts())),
        stamp in proptest::option::of((timestamps(), proptest::option::of(timestamps()), any::<u32>(), any::<bool>())),
        state in proptest::option::of((1_u64..1_000_000, any::<Vec<u8>>(), any::<bool>())),
    ) -> PersonRecord {
        PersonRecord {
            time_zone: zone,
            source_login: login,
            opted_in_at,
            disabled: disabled.map(|(since, text)| DisabledRecord { since, failure: failure(&text) }),
            permit: permit.map(|(until, plan)| DeletionPermit { plan, until }),
            stamp: stamp.map(|(stamp, last_success, attempts, fails)| StampRecord {
                stamp,
                last_success,
                failing: fails.then(|| FailureStreak { since: stamp, attempts, failure: failure("x") }),
            }),
            state: state.map(|(version, bytes, present)| StateRecord {
                version,
                content: present.then(|| StateContent { fingerprint: bytes.clone(), state: bytes }),
            }),
            ..person(&name)
        }
    }
}

prop_compose! {
    fn entries()(when in timestamps(), task in texts(), kind in texts(), before in texts(), after in proptest::option::of(texts())) -> JournalRecord {
        JournalRecord {
            at: when,
            tenant: "contoso".parse().unwrap(),
            user: "ana".parse().unwrap(),
            task: SourceKey::from_stored(&task),
            kind: JournalKind::from(kind),
            before: Some(json!({"title": before, "percent": 12.5})),
            after: after.map(|text| json!([text, null, 1])),
        }
    }
}

proptest! {
    #[test]
    fn any_people_and_entries_are_read_back(
        people in proptest::collection::vec(people(), 0..6),
        entries in proptest::collection::vec(entries(), 0..6),
    ) {
        let mut records: Vec<BackupRecord> = people.into_iter().map(|person| BackupRecord::Person(Box::new(person))).collect();
        records.extend(entries.into_iter().map(|entry| BackupRecord::Journal(Box::new(entry))));
        let (back, summary) = read(&written(&records)).unwrap();
        prop_assert_eq!(&back, &records);
        prop_assert_eq!(summary.header, header(&records));
    }
}
