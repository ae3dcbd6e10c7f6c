//! The name of a process, as shown in the leader's lease and in logs.

use super::ServiceRole;
use tasksync_common::random::ordered_id;

/// Linux' file with the host's name; in a container, the name of the container or pod.
const HOST: &str = "/proc/sys/kernel/hostname";
/// Most characters of the host's name that are used.
const LONGEST: usize = 63;

/// Returns `ROLE-HOST-PID-UUID`, which no other process and no earlier start has.
pub(super) fn name(role: ServiceRole) -> String {
    let host = std::fs::read_to_string(HOST).unwrap_or_default();
    format!(
        "{}-{}-{}-{}",
        role.name(),
        clean(&host),
        std::process::id(),
        ordered_id()
    )
}

/// Returns the host's name with a hyphen for every character that might need quoting.
fn clean(host: &str) -> String {
    let host: String = host
        .trim()
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        })
        .take(LONGEST)
        .collect();
    if host.is_empty() { "host".to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_new_at_every_start_and_needs_no_quoting() {
        assert_eq!(clean("tasksync-worker-0\n"), "tasksync-worker-0");
        assert_eq!(clean("db 1{x}.example"), "db-1-x--example");
        assert_eq!(clean(""), "host");
        assert_eq!(clean(&"x".repeat(100)).len(), LONGEST);
        let first = name(ServiceRole::Worker);
        assert!(first.starts_with("worker-"), "{first}");
        assert_ne!(first, name(ServiceRole::Worker));
    }
}
