//! The CPU time of reading Exchange's answers, compared with a bare quick-xml event loop over the same bytes.
//!
//! Both sides check that the bytes are UTF-8, process every event and stop at the end. The client's own
//! parser also compares names, keeps ids and versions, and enforces its limits. Rounds of both alternate; the
//! median of all rounds is reported.

#[path = "../../common/benches/support/mod.rs"]
mod ending;
mod support;

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use ending::{end, say};
use jiff::tz::TimeZone;
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use support::{median, verdict};
use tasksync_worker::mailbox::ews::bench::{parse_get_folder, parse_get_item, parse_sync_folder_items};

use tasksync_common::clock::monotonic;

/// Rounds of each side. A debug build only rehearses, and its figures mean nothing.
const ROUNDS: usize = if cfg!(debug_assertions) { 1 } else { 101 };
/// Shortest duration of a round; the work is repeated until then.
const ROUND: Duration = Duration::from_millis(4);
/// The aim: the parser takes at most this many times as long as the bare loop.
const AIM: f64 = 1.5;

/// Reads an answer with the client's parser. Returns the number of objects that were read.
type Parse = Box<dyn Fn(&[u8]) -> Result<usize, String>>;

/// One kind of answer.
struct Case {
    name: String,
    answer: String,
    parse: Parse,
    aimed: bool,
}

fn main() -> ExitCode {
    end("parse", run())
}

fn run() -> Result<(), String> {
    say(
        "Reading Exchange's answers: the client's parser against a bare quick-xml event loop over the same bytes",
    );
    say(&format!(
        "(median of {ROUNDS} alternating rounds; aim for SyncFolderItems: at most {AIM} times)\n"
    ));
    say("  answer                                     bytes    parser      bare   ratio  aim");
    for case in cases()? {
        let bytes = case.answer.as_bytes();
        let repeat = repetitions(|| bare(bytes).map(|_| ()))?;
        let (mut parser_times, mut bare_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let bare = timed(repeat, || bare(black_box(bytes)))?;
            let parser = timed(repeat, || (case.parse)(black_box(bytes)))?;
            // The first round warms caches.
            if round > 0 {
                parser_times.push(parser);
                bare_times.push(bare);
                ratios.push(parser / bare);
            }
        }
        let ratio = median(&ratios);
        let aim = if case.aimed { verdict(ratio <= AIM) } else { "-" };
        say(&format!(
            "  {:<40} {:>7} {:>6.1} µs {:>6.1} µs {ratio:>6.2}x  {aim}",
            case.name,
            bytes.len(),
            median(&parser_times) * 1e6,
            median(&bare_times) * 1e6,
        ));
    }
    say("");
    Ok(())
}

/// Returns how often `work` must be repeated to fill a round.
fn repetitions(work: impl Fn() -> Result<(), String>) -> Result<u32, String> {
    let mut repeat = 1;
    loop {
        let started = monotonic();
        for _ in 0..repeat {
            work()?;
        }
        if started.elapsed() >= ROUND || repeat >= 1 << 20 {
            return Ok(repeat);
        }
        repeat *= 2;
    }
}

/// Returns the seconds of one repetition.
fn timed(repeat: u32, work: impl Fn() -> Result<usize, String>) -> Result<f64, String> {
    let started = monotonic();
    for _ in 0..repeat {
        black_box(work()?);
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(repeat))
}

/// Runs the baseline. Returns the number of events.
fn bare(bytes: &[u8]) -> Result<usize, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_str(text);
    let mut events = 0;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        if matches!(event, Event::Eof) {
            return Ok(events);
        }
        black_box(&event);
        events += 1;
    }
}

fn cases() -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for count in [0, 10, 512] {
        let parse = move |bytes: &[u8]| {
            let page = parse_sync_folder_items(bytes)?;
            exactly(count, page.changes.len())
        };
        cases.push(Case {
            name: format!("SyncFolderItems, {count} tasks"),
            answer: sync_folder_items(count),
            parse: Box::new(parse),
            aimed: true,
        });
    }
    let ids: Vec<String> = (0..20).map(|number| id("AAMkFolder", number)).collect();
    let parse = move |bytes: &[u8]| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let signs = parse_get_folder(bytes, &ids)?;
        exactly(ids.len(), signs.iter().flatten().count())
    };
    cases.push(Case {
        name: "GetFolder, survey of 10 mailboxes".to_owned(),
        answer: get_folder(20),
        parse: Box::new(parse),
        aimed: false,
    });
    let zone = TimeZone::get("Europe/Berlin").map_err(|error| error.to_string())?;
    for (count, html) in [(10, false), (100, false), (10, true)] {
        let ids: Vec<String> = (0..count).map(|number| id("AAMkItem", number)).collect();
        let zone = zone.clone();
        let parse = move |bytes: &[u8]| {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            exactly(count, parse_get_item(bytes, &ids, &zone)?.len())
        };
        let body = if html { "HTML" } else { "text" };
        cases.push(Case {
            name: format!("GetItem, {count} tasks with {body}"),
            answer: get_item(count, html),
            parse: Box::new(parse),
            aimed: false,
        });
    }
    Ok(cases)
}

fn exactly(expected: usize, found: usize) -> Result<usize, String> {
    if expected == found {
        Ok(found)
    } else {
        Err(format!("{found} read where {expected} were written"))
    }
}

/// Returns an id of realistic length, 152 characters.
fn id(kind: &str, number: usize) -> String {
    format!("{kind:A<140}{number:012}")
}

fn change_key(number: usize) -> String {
    format!("EQAAABYAAAB{number:021}AAAA====")
}

/// Returns an answer with the header and namespaces that Exchange writes.
fn envelope(operation: &str, messages: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Header>\
         <h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" MajorBuildNumber=\"1544\" MinorBuildNumber=\"4\" \
         Version=\"V2017_07_11\" xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"/>\
         </s:Header><s:Body xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\
         <m:{operation}Response xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
         <m:ResponseMessages>{messages}</m:ResponseMessages></m:{operation}Response></s:Body></s:Envelope>"
    )
}

fn message(operation: &str, payload: &str) -> String {
    format!(
        "<m:{operation}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{payload}\
         </m:{operation}ResponseMessage>"
    )
}

fn sync_folder_items(count: usize) -> String {
    let mut changes = String::new();
    for number in 0..count {
        let (id, key) = (id("AAMkItem", number), change_key(number));
        let item = format!("<t:Task><t:ItemId Id=\"{id}\" ChangeKey=\"{key}\"/></t:Task>");
        let _ = match number % 8 {
            7 => write!(
                changes,
                "<t:Delete><t:ItemId Id=\"{id}\" ChangeKey=\"{key}\"/></t:Delete>"
            ),
            4..7 => write!(changes, "<t:Update>{item}</t:Update>"),
            _ => write!(changes, "<t:Create>{item}</t:Create>"),
        };
    }
    let state = format!("H4sIAAAA{:A<400}", "");
    let payload = format!(
        "<m:SyncState>{state}</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>\
         <m:Changes>{changes}</m:Changes>"
    );
    envelope("SyncFolderItems", &message("SyncFolderItems", &payload))
}

fn get_folder(count: usize) -> String {
    let mut messages = String::new();
    for number in 0..count {
        let payload = format!(
            "<m:Folders><t:TasksFolder><t:FolderId Id=\"{}\" ChangeKey=\"{}\"/>\
             <t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"0x670a\" PropertyType=\"SystemTime\"/>\
             <t:Value>2026-11-22T14:03:{:02}.123Z</t:Value></t:ExtendedProperty>\
             <t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"0x670b\" PropertyType=\"Integer\"/>\
             <t:Value>{number}</t:Value></t:ExtendedProperty></t:TasksFolder></m:Folders>",
            id("AAMkFolder", number),
            change_key(number),
            number % 60,
        );
        messages += &message("GetFolder", &payload);
    }
    envelope("GetFolder", &messages)
}

fn get_item(count: usize, html: bool) -> String {
    const HTML: &str = "&lt;html&gt;&lt;head&gt;&lt;meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\"&gt;\
        &lt;/head&gt;&lt;body&gt;&lt;div class=\"ExternalClass\"&gt;&lt;p&gt;Ask the &lt;b&gt;harbour office&lt;/b&gt; for the \
        list of berths &amp;amp; prices, then call back.&lt;/p&gt;&lt;ul&gt;&lt;li&gt;berth 4&lt;/li&gt;&lt;li&gt;berth 9&lt;/li&gt;\
        &lt;/ul&gt;&lt;/div&gt;&lt;/body&gt;&lt;/html&gt;";
    const TEXT: &str = "Ask the harbour office for the list of berths &amp; prices, then call back.";
    let (kind, body) = if html { ("HTML", HTML) } else { ("Text", TEXT) };
    let mut messages = String::new();
    for number in 0..count {
        let payload = format!(
            "<m:Items><t:Task><t:ItemId Id=\"{}\" ChangeKey=\"{}\"/><t:Subject>Order paint for hull {number}</t:Subject>\
             <t:Sensitivity>Normal</t:Sensitivity><t:Body BodyType=\"{kind}\" IsTruncated=\"false\">{body}</t:Body>\
             <t:Categories><t:String>Blue</t:String></t:Categories><t:Importance>Normal</t:Importance>\
             <t:DateTimeCreated>2026-11-20T08:00:00.000Z</t:DateTimeCreated>\
             <t:ExtendedProperty><t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\" \
             PropertyName=\"TaskSyncSourceKey\" PropertyType=\"String\"/>\
             <t:Value>sp|3f1c2f0e-0000-4000-8000-000000000001|{number}</t:Value></t:ExtendedProperty>\
             <t:LastModifiedTime>2026-11-22T14:00:00.500Z</t:LastModifiedTime><t:ActualWork>60</t:ActualWork>\
             <t:DueDate>2026-12-03T23:00:00Z</t:DueDate><t:IsRecurring>false</t:IsRecurring>\
             <t:PercentComplete>25</t:PercentComplete><t:StartDate>2026-11-30T23:00:00Z</t:StartDate>\
             <t:Status>InProgress</t:Status><t:TotalWork>240</t:TotalWork></t:Task></m:Items>",
            id("AAMkItem", number),
            change_key(number),
        );
        messages += &message("GetItem", &payload);
    }
    envelope("GetItem", &messages)
}
