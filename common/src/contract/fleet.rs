//! The suite of the fleet.

use std::time::Duration;

use jiff::Timestamp;

use super::{FleetBench, tenant_id};
use crate::error::{Code, ErrorClass, Failure};
use crate::fleet::{
    CircuitReport, CircuitUpdate, Fleet, FleetAnswer, FleetReport, Member, OpenCircuit, PauseReport, Permits,
    Role, ServerAnswer, ServerName, ServerReport,
};
use crate::metrics::record::Server;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

fn started() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn worker(name: &str) -> Member {
    Member {
        background: Permits { total: 16, free: 5 },
        running: [(tenant_id("contoso"), 11)].into(),
        lifetime_ms: 3_600_000,
        ..Member::new(name, Role::Worker, started())
    }
}

/// Returns the process as it reported itself, however long ago.
fn heard_now(member: Member) -> Member {
    Member {
        silent_ms: 0,
        ..member
    }
}

fn report(name: &str, number: u64, servers: &[ServerReport]) -> FleetReport {
    FleetReport {
        number,
        lifetime: LONG,
        member: worker(name),
        servers: servers.to_vec(),
        circuits: Vec::new(),
        circuits_version: 0,
    }
}

fn server() -> ServerName {
    let url = "https://mail.contoso.example/EWS/Exchange.asmx".parse().unwrap();
    ServerName::new(&url, Server::Ews, "svc")
}

fn server_report(holds: u32, wants: u32) -> ServerReport {
    ServerReport {
        name: server().to_string(),
        limit: 25,
        holds,
        wants,
        demand: wants,
        pause: None,
    }
}

/// Returns a request about a server with a pause that began `ago_ms` ago and ends in `left_ms`.
fn paused_server_report(left_ms: u64, ago_ms: u64) -> ServerReport {
    ServerReport {
        pause: Some(PauseReport {
            left_ms,
            ago_ms,
            tenant: Some(tenant_id("contoso")),
            why: "GetFolder: \u{201e}busy\u{201c}".to_owned(),
        }),
        ..server_report(0, 0)
    }
}

async fn report_server(fleet: &dyn Fleet, name: &str, number: u64, holds: u32, wants: u32) -> ServerAnswer {
    let report = report(name, number, &[server_report(holds, wants)]);
    only_server(fleet.exchange(&report).await.unwrap())
}

fn only_server(answer: FleetAnswer) -> ServerAnswer {
    assert_eq!(answer.servers.len(), 1);
    answer.servers.into_iter().next().unwrap()
}

fn open(failures: u32) -> OpenCircuit {
    OpenCircuit {
        failure: Failure::new(
            ErrorClass::Refused,
            Code::ExchangeSignInRefused,
            "401 from mail.contoso.example – \"Zugriff\" verweigert",
        ),
        failures,
        opened_ago_ms: 0,
        left_ms: 3_000_000,
    }
}

fn circuit_report(tenant: &str, base: u64, circuit: Option<OpenCircuit>) -> CircuitReport {
    CircuitReport {
        tenant: tenant_id(tenant),
        base,
        circuit,
    }
}

async fn report_circuits(
    fleet: &dyn Fleet,
    name: &str,
    number: u64,
    circuits_version: u64,
    reports: Vec<CircuitReport>,
) -> FleetAnswer {
    let report = FleetReport {
        circuits: reports,
        circuits_version,
        ..report(name, number, &[])
    };
    fleet.exchange(&report).await.unwrap()
}

/// Members are shown as they reported themselves. One that is silent for its lifetime is removed. Schedulers
/// do not count as workers.
pub async fn a_process_is_a_member_until_it_is_silent(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    assert!(fleet.members().await.unwrap().is_empty());
    let short = FleetReport {
        lifetime: bench.unit(),
        ..report("w1", 1, &[])
    };
    assert_eq!(fleet.exchange(&short).await.unwrap().workers, 1);
    assert_eq!(fleet.exchange(&report("w2", 1, &[])).await.unwrap().workers, 2);
    let scheduler = FleetReport {
        member: Member {
            leads: true,
            ..Member::new("s1", Role::Scheduler, started())
        },
        ..report("s1", 1, &[])
    };
    let answer = fleet.exchange(&scheduler).await.unwrap();
    assert_eq!(
        (answer.workers, answer.servers.len(), answer.circuits.len()),
        (2, 0, 0)
    );
    let members: Vec<Member> = fleet
        .members()
        .await
        .unwrap()
        .into_iter()
        .map(heard_now)
        .collect();
    assert_eq!(members, [scheduler.member.clone(), worker("w1"), worker("w2")]);
    bench.pass_time(bench.unit() * 2).await;
    let members = fleet.members().await.unwrap();
    let silent = members.last().map(|member| u128::from(member.silent_ms)).unwrap();
    assert!(silent >= bench.unit().as_millis(), "{members:?}");
    let members: Vec<Member> = members.into_iter().map(heard_now).collect();
    assert_eq!(members, [scheduler.member, worker("w2")]);
    assert_eq!(fleet.exchange(&report("w2", 2, &[])).await.unwrap().workers, 1);
}

/// A share is taken from what no process holds.
pub async fn shares_are_never_more_than_the_limit(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    assert_eq!(report_server(fleet, "a", 1, 0, 20).await.share, 20);
    assert_eq!(report_server(fleet, "b", 1, 0, 20).await.share, 5);
    assert_eq!(report_server(fleet, "c", 1, 0, 20).await.share, 0);
    assert_eq!(report_server(fleet, "a", 2, 20, 30).await.share, 20);
    // Another account of the same host is another server.
    let other = ServerReport {
        name: "mail.contoso.example:443\0contoso/app".to_owned(),
        ..server_report(0, 40)
    };
    let given = fleet
        .exchange(&report("c", 2, &[other, server_report(0, 1)]))
        .await
        .unwrap();
    let shares: Vec<u32> = given.servers.iter().map(|given| given.share).collect();
    assert_eq!(shares, [25, 0]);
}

/// Requests beyond a smaller share count as in flight until the process reports that they ended.
pub async fn what_is_let_go_is_free_once_it_is_reported(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    assert_eq!(report_server(fleet, "a", 1, 0, 25).await.share, 25);
    // It wants less, but all its requests are in flight.
    assert_eq!(report_server(fleet, "a", 2, 25, 10).await.share, 10);
    assert_eq!(report_server(fleet, "b", 1, 0, 15).await.share, 0);
    assert_eq!(report_server(fleet, "a", 3, 14, 10).await.share, 10);
    assert_eq!(report_server(fleet, "b", 2, 0, 15).await.share, 11);
    assert_eq!(report_server(fleet, "a", 4, 10, 10).await.share, 10);
    assert_eq!(report_server(fleet, "b", 3, 11, 15).await.share, 15);
    assert_eq!(report_server(fleet, "a", 5, 0, 0).await.share, 0);
    assert_eq!(report_server(fleet, "b", 4, 15, 25).await.share, 25);
    // A process that returns holding what was given to another one is cut down to the rest.
    assert_eq!(report_server(fleet, "a", 6, 10, 10).await.share, 0);
    assert_eq!(report_server(fleet, "b", 5, 25, 25).await.share, 15);
}

/// What a process held is free after its lifetime, and not before.
pub async fn what_a_dead_process_held_is_free(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let dying = FleetReport {
        lifetime: bench.unit(),
        ..report("a", 1, &[server_report(0, 20)])
    };
    assert_eq!(only_server(fleet.exchange(&dying).await.unwrap()).share, 20);
    assert_eq!(report_server(fleet, "b", 1, 0, 25).await.share, 5);
    bench.pass_time(bench.unit() * 2).await;
    let given = report_server(fleet, "b", 2, 5, 25).await;
    assert_eq!((given.share, given.demands, given.place), (25, vec![25], Some(0)));
}

/// All demands are returned in the order of names, so that all processes compute the same shares.
pub async fn all_demands_are_returned_in_order_of_names(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    for (name, demand) in [("w10", 3), ("w2", 7), ("idle", 0), ("w1", 5)] {
        report_server(fleet, name, 1, 0, demand).await;
    }
    let given = report_server(fleet, "w2", 2, 7, 8).await;
    assert_eq!((given.demands, given.place), (vec![5, 3, 8], Some(2)));
    let given = report_server(fleet, "idle", 2, 0, 0).await;
    assert_eq!((given.demands, given.place), (vec![5, 3, 8], None));
    // A process without demand is left out.
    report_server(fleet, "w10", 2, 0, 0).await;
    let given = report_server(fleet, "w1", 2, 5, 5).await;
    assert_eq!((given.demands, given.place), (vec![5, 8], Some(0)));
}

/// One process reports a pause and all processes wait. A shorter pause does not replace a longer one.
pub async fn a_pause_reported_by_one_is_learned_by_all(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    assert_eq!(report_server(fleet, "b", 1, 0, 1).await.pause_ms, 0);
    fleet
        .exchange(&report("a", 1, &[paused_server_report(1_800_000, 0)]))
        .await
        .unwrap();
    let learned = report_server(fleet, "b", 2, 1, 1).await.pause_ms;
    assert!((1_700_000..=1_800_000).contains(&learned), "{learned}");
    let given = only_server(
        fleet
            .exchange(&report("c", 1, &[paused_server_report(1_000, 0)]))
            .await
            .unwrap(),
    );
    assert!(
        (1_700_000..=1_800_000).contains(&given.pause_ms),
        "{}",
        given.pause_ms
    );
    fleet
        .exchange(&report("c", 2, &[paused_server_report(3_600_000, 0)]))
        .await
        .unwrap();
    let learned = report_server(fleet, "a", 2, 0, 0).await.pause_ms;
    assert!((3_500_000..=3_600_000).contains(&learned), "{learned}");
}

/// A pause outlives its reporter, even if no process holds a share of the server meanwhile, and it ends.
pub async fn a_pause_outlives_its_reporter_and_ends(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let unit = u64::try_from(bench.unit().as_millis()).unwrap();
    let pause = |pause_ms| FleetReport {
        lifetime: bench.unit(),
        ..report(
            "a",
            1,
            &[ServerReport {
                demand: 1,
                wants: 1,
                ..paused_server_report(pause_ms, 0)
            }],
        )
    };
    fleet.exchange(&pause(unit * 6)).await.unwrap();
    bench.pass_time(bench.unit() * 2).await;
    assert!(report_server(fleet, "b", 1, 0, 1).await.pause_ms > 0);
    bench.pass_time(bench.unit() * 5).await;
    let given = report_server(fleet, "b", 2, 1, 1).await;
    assert_eq!((given.pause_ms, given.share), (0, 1));
}

/// A pause is shown with the tenant that received it, its beginning, end and reason. Another server of the
/// host has none.
pub async fn a_pause_is_shown_with_its_reason(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let url = "https://mail.contoso.example/sites/a".parse().unwrap();
    let servers = [server(), ServerName::new(&url, Server::SharePoint, "svc")];
    assert_eq!(fleet.pauses(&servers).await.unwrap(), [None, None]);
    let answer = fleet
        .exchange(&report("a", 1, &[paused_server_report(60_000, 0)]))
        .await
        .unwrap();
    let now = i64::try_from(answer.now_ms).unwrap();
    let pauses = fleet.pauses(&servers).await.unwrap();
    let [Some(first), None] = pauses.as_slice() else {
        panic!("one of them is paused")
    };
    assert_eq!(first.since.unwrap().as_millisecond(), now);
    assert_eq!(first.until.as_millisecond(), now + 60_000);
    assert_eq!(first.tenant, Some(tenant_id("contoso")));
    assert_eq!(first.why.as_deref(), Some("GetFolder: \u{201e}busy\u{201c}"));
    // A longer pause keeps the beginning; a repeated report changes nothing.
    fleet
        .exchange(&report("b", 1, &[paused_server_report(90_000, 0)]))
        .await
        .unwrap();
    fleet
        .exchange(&report("a", 2, &[paused_server_report(60_000, 0)]))
        .await
        .unwrap();
    let longer = fleet.pauses(&servers).await.unwrap().swap_remove(0).unwrap();
    assert_eq!(longer.since, first.since);
    assert!(longer.until.as_millisecond() >= now + 90_000);
    assert!(fleet.pauses(&[]).await.unwrap().is_empty());
}

/// A late report of an ended pause does not restore it. A pause that the server asks for later counts.
pub async fn an_ended_pause_is_over_for_all(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let other = ServerName::new(&"https://other.example".parse().unwrap(), Server::Ews, "svc");
    assert_eq!(fleet.end_pauses(&[server(), other.clone()]).await.unwrap(), 0);
    fleet
        .exchange(&report("a", 1, &[paused_server_report(3_600_000, 0)]))
        .await
        .unwrap();
    assert_eq!(fleet.end_pauses(&[server(), other]).await.unwrap(), 1);
    assert_eq!(fleet.pauses(&[server()]).await.unwrap(), [None]);
    let given = only_server(
        fleet
            .exchange(&report("a", 2, &[paused_server_report(3_590_000, 10_000)]))
            .await
            .unwrap(),
    );
    assert_eq!(given.pause_ms, 0);
    assert_eq!(report_server(fleet, "b", 1, 0, 1).await.pause_ms, 0);
    assert_eq!(fleet.end_pauses(&[server()]).await.unwrap(), 0);
    bench.pass_time(bench.unit()).await;
    let given = only_server(
        fleet
            .exchange(&report("b", 2, &[paused_server_report(5_000, 0)]))
            .await
            .unwrap(),
    );
    assert!((1..=5_000).contains(&given.pause_ms), "{}", given.pause_ms);
    let given = only_server(
        fleet
            .exchange(&report("a", 3, &[paused_server_report(3_000_000, 600_000)]))
            .await
            .unwrap(),
    );
    assert!((1..=5_000).contains(&given.pause_ms), "{}", given.pause_ms);
}

/// Other processes learn the circuit with its failure, age and end. A process that knows the other circuits
/// learns each change once.
pub async fn a_circuit_opened_by_one_is_learned_by_all(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let told_both = vec![
        circuit_report("contoso", 0, Some(open(2))),
        circuit_report("fabrikam", 0, Some(open(1))),
    ];
    let first = report_circuits(fleet, "a", 1, 0, told_both).await;
    assert_eq!(
        first.circuits.len(),
        2,
        "its own changes come back with their versions"
    );
    let learned = report_circuits(fleet, "b", 1, 0, Vec::new()).await;
    let names: Vec<_> = learned.circuits.iter().map(|one| one.tenant.as_str()).collect();
    assert_eq!(names, ["contoso", "fabrikam"]);
    let contoso = learned
        .circuits
        .first()
        .and_then(|one| one.circuit.clone())
        .unwrap();
    assert_eq!((&contoso.failure, contoso.failures), (&open(2).failure, 2));
    assert!((2_900_000..=3_000_000).contains(&contoso.left_ms), "{contoso:?}");
    assert!(contoso.opened_ago_ms < 100_000);
    let shown = fleet.circuits(10).await.unwrap();
    let names: Vec<_> = shown.iter().map(|one| one.tenant.as_str()).collect();
    assert_eq!(
        names,
        ["fabrikam", "contoso"],
        "those that changed last come first"
    );
    assert_eq!(shown[1].circuit.as_ref().unwrap().failure, open(2).failure);
    assert_eq!(fleet.circuits(1).await.unwrap().len(), 1);
    let nothing = report_circuits(fleet, "b", 2, learned.circuits_version, Vec::new()).await;
    assert_eq!(
        (nothing.circuits, nothing.circuits_version),
        (Vec::new(), learned.circuits_version)
    );
    let base = learned.circuits.first().unwrap().version;
    let closed = report_circuits(
        fleet,
        "b",
        3,
        learned.circuits_version,
        vec![circuit_report("contoso", base, None)],
    )
    .await;
    let [CircuitUpdate { circuit: None, .. }] = closed.circuits.as_slice() else {
        panic!("{closed:?}")
    };
    let learned = report_circuits(fleet, "a", 2, first.circuits_version, Vec::new()).await;
    assert_eq!(learned.circuits, closed.circuits);
    let shown = fleet.circuits(10).await.unwrap();
    assert_eq!(shown.len(), 1, "a closed circuit is not shown: {shown:?}");
    // A new process learns everything, and so does one that remembers more than the store has.
    for circuits_version in [0, closed.circuits_version + 1_000] {
        let name = format!("new{circuits_version}");
        assert_eq!(
            report_circuits(fleet, &name, 1, circuits_version, Vec::new())
                .await
                .circuits
                .len(),
            2
        );
    }
}

/// If two processes change the same version, one change wins, and the other process learns it.
pub async fn a_circuit_changed_meanwhile_is_not_overwritten(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let first = report_circuits(
        fleet,
        "a",
        1,
        0,
        vec![circuit_report("contoso", 0, Some(open(1)))],
    )
    .await;
    let version = first.circuits.first().unwrap().version;
    let other = report_circuits(
        fleet,
        "b",
        1,
        0,
        vec![circuit_report("contoso", version + 7, Some(open(9)))],
    )
    .await;
    assert_eq!(other.circuits.len(), 1);
    assert_eq!(other.circuits.first().unwrap().version, version);
    assert_eq!(
        other.circuits.first().unwrap().circuit.as_ref().unwrap().failures,
        1
    );
    let closed = report_circuits(
        fleet,
        "b",
        2,
        other.circuits_version,
        vec![circuit_report("contoso", version, None)],
    )
    .await;
    let again = report_circuits(
        fleet,
        "a",
        2,
        first.circuits_version,
        vec![circuit_report("contoso", version, Some(open(2)))],
    )
    .await;
    assert_eq!(again.circuits, closed.circuits);
}

/// A report that arrives after a later one of the same process changes nothing.
pub async fn a_report_that_comes_late_changes_nothing(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    assert_eq!(report_server(fleet, "a", 2, 0, 10).await.share, 10);
    for number in [1, 2] {
        let late = report("a", number, &[server_report(0, 0)]);
        assert_eq!(
            fleet.exchange(&late).await.unwrap_err().class,
            ErrorClass::Transient
        );
    }
    assert_eq!(report_server(fleet, "b", 1, 0, 25).await.share, 15);
}

/// One process at a time probes a tenant; the next may when the time is over.
pub async fn one_probes_at_a_time(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let contoso = tenant_id("contoso");
    assert!(fleet.probe(&contoso, bench.unit()).await.unwrap());
    assert!(fleet.probe(&tenant_id("fabrikam"), LONG).await.unwrap());
    assert!(!fleet.probe(&tenant_id("fabrikam"), LONG).await.unwrap());
    bench.pass_time(bench.unit() * 2).await;
    assert!(fleet.probe(&contoso, LONG).await.unwrap());
    assert!(!fleet.probe(&contoso, LONG).await.unwrap());
}

/// A process that leaves is removed at once.
pub async fn a_process_that_leaves_is_no_longer_a_member(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    assert_eq!(report_server(fleet, "a", 1, 0, 25).await.share, 25);
    assert_eq!(report_server(fleet, "a", 2, 0, 0).await.share, 0);
    fleet.leave("a").await.unwrap();
    fleet.leave("nobody").await.unwrap();
    assert!(fleet.members().await.unwrap().is_empty());
    assert_eq!(report_server(fleet, "b", 1, 0, 25).await.share, 25);
}

/// One exchange handles the largest number of servers.
pub async fn many_servers_are_asked_about_at_once(bench: &dyn FleetBench) {
    let fleet = &*bench.fleet();
    let servers: Vec<ServerReport> = (0..crate::fleet::MAXIMUM_SERVERS)
        .map(|number| ServerReport {
            name: format!("mail{number}.example:443\0tenant/app"),
            ..server_report(0, 3)
        })
        .collect();
    let answer = fleet.exchange(&report("a", 1, &servers)).await.unwrap();
    assert_eq!(answer.servers.len(), servers.len());
    assert!(
        answer
            .servers
            .iter()
            .all(|given| given.share == 3 && given.demands == [3])
    );
}
