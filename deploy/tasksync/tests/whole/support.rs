//! Support bundles of a running service.

use std::io::Read as _;
use std::path::Path;

use tasksync_loadtest::trial::Service;

use crate::rig::ask;

/// Returns the files of a support bundle: names and contents.
pub(crate) fn unpacked(bundle: &Path) -> Vec<(String, Vec<u8>)> {
    let packed = std::fs::File::open(bundle).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry
                .path()
                .unwrap()
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        })
        .collect()
}

/// Opts in a person whom neither side knows, and makes a bundle with people's names and one without. The person's names
/// are only in the first, and the titles of tasks that the service knows in neither.
pub(crate) fn a_bundle_has_no_task_and_names_people_only_if_asked(
    service: &Service,
    tenant: &str,
    folder: &Path,
    titles: &[&str],
) {
    let names = ["zoe-unknown", "zoe.nobody@contoso.example"];
    let opted_in = ask(
        service,
        &[
            "user",
            "opt-in",
            tenant,
            names[0],
            "--unchecked",
            "--source-login",
            "zoe-login",
            "--mailbox",
            names[1],
        ],
    );
    assert_eq!(opted_in.code, 0, "{opted_in:?}");
    for with_names in [true, false] {
        let bundle = folder.join(format!("bundle-{with_names}.tar.gz"));
        let mut arguments = vec!["support-bundle", bundle.to_str().unwrap()];
        arguments.extend(with_names.then_some("--with-names"));
        let ended = ask(service, &arguments);
        let files = unpacked(&bundle);
        let has = |wanted: &str| {
            let mut texts = files.iter().map(|(_, content)| String::from_utf8_lossy(content));
            texts.any(|text| text.contains(wanted))
        };
        for file in [
            "README.txt",
            "settings.txt",
            "status.json",
            "doctor.txt",
            "tenants.json",
        ] {
            assert!(files.iter().any(|(name, _)| name == file), "{file}: {ended:?}");
        }
        assert!(has(tenant), "the bundle is about this tenant");
        assert_eq!(names.map(&has), [with_names; 2], "{ended:?}");
        assert_eq!(titles.iter().find(|title| has(title)), None);
    }
}
