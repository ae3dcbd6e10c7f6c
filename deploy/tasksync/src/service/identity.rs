//! The name of a process, as the lease of the leader and the logs show it.

use uuid::Uuid;

use super::Role;

/// Where Linux tells the host's name; in a container that of the container or pod.
const HOST: &str = "/proc/sys/kernel/hostname";
/// Longest part of a host's name that is used.
const LONGEST: usize = 63;

/// `ROLE-HOST-PID-UUID`: no other process and no earlier start has it.
pub(super) fn name(role: Role) -> String {
    let host = std::fs::read_to_string(HOST).unwrap_or_default();
    format!(
        "{}-{}-{}-{}",
        role.name(),
        clean(&host),
        std::process::id(),
        Uuid::now_v7()
    )
}

/// The host's name without anything that needs quoting somewhere.
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
        let first = name(Role::Worker);
        assert!(first.starts_with("worker-"), "{first}");
        assert_ne!(first, name(Role::Worker));
    }
}
