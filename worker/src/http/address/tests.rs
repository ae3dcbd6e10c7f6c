use super::*;

/// The expected verdict about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allowed,
    Special,
    Metadata,
}
use Outcome::{Allowed, Metadata, Special};

fn outcome(rules: &AddressRules, address: IpAddr) -> Outcome {
    match rules.judge(address) {
        Ok(()) => Allowed,
        Err(AddressRefusal::Special { .. }) => Special,
        Err(AddressRefusal::Metadata) => Metadata,
    }
}

fn rules(networks: &[&str]) -> AddressRules {
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    AddressRules::new(&networks, false).unwrap()
}

/// Hosts as written in URLs, and the verdict if nothing is allowed.
const HOSTS: &[(&str, Outcome)] = &[
    // Public.
    ("1.1.1.1", Allowed),
    ("13.107.6.152", Allowed),
    ("9.255.255.255", Allowed),
    ("11.0.0.0", Allowed),
    ("100.63.255.255", Allowed),
    ("100.128.0.0", Allowed),
    ("172.15.255.255", Allowed),
    ("172.32.0.0", Allowed),
    ("169.253.255.255", Allowed),
    ("192.167.255.255", Allowed),
    ("198.17.255.255", Allowed),
    ("223.255.255.255", Allowed),
    ("[2606:4700:4700::1111]", Allowed),
    ("[2a01:111:f400::1]", Allowed),
    ("[::ffff:1.1.1.1]", Allowed),
    ("[64:ff9b::1.1.1.1]", Allowed),
    // Unspecified.
    ("0.0.0.0", Special),
    ("0.1.2.3", Special),
    ("0", Special),
    ("[::]", Special),
    // Loopback, in every notation that URLs accept.
    ("127.0.0.1", Special),
    ("127.255.255.254", Special),
    ("127.1", Special),
    ("127.0.1", Special),
    ("2130706433", Special),
    ("0x7f000001", Special),
    ("0x7f.0.0.1", Special),
    ("0x7F.1", Special),
    ("0177.0.0.1", Special),
    ("017700000001", Special),
    ("0177.0x0.0.01", Special),
    ("127.0.0.1.", Special),
    ("%31%32%37.0.0.1", Special),
    ("127\u{3002}0\u{3002}0\u{3002}1", Special),
    ("\u{ff11}27.0.0.1", Special),
    ("[::1]", Special),
    ("[0:0:0:0:0:0:0:1]", Special),
    ("[::ffff:127.0.0.1]", Special),
    ("[::ffff:7f00:1]", Special),
    ("[::127.0.0.1]", Special),
    ("[64:ff9b::127.0.0.1]", Special),
    ("[64:ff9b::7f00:1]", Special),
    ("[64:ff9b:1::127.0.0.1]", Special),
    ("[::ffff:0:127.0.0.1]", Special),
    ("[2002:7f00:1::]", Special),
    ("[2001:0:7f00:1::]", Special),
    ("[2001:470::5efe:127.0.0.1]", Special),
    ("[2001:470::200:5efe:10.0.0.1]", Special),
    // Private, carriers, link-local.
    ("10.0.0.1", Special),
    ("10.255.255.255", Special),
    ("167772161", Special),
    ("012.0.0.1", Special),
    ("172.16.0.1", Special),
    ("172.31.255.255", Special),
    ("192.168.0.1", Special),
    ("0xc0.0xa8.0.1", Special),
    ("[::ffff:10.1.2.3]", Special),
    ("[::ffff:192.168.1.1]", Special),
    ("[64:ff9b::10.1.2.3]", Special),
    ("[2002:a00:1::]", Special),
    ("100.64.0.1", Special),
    ("100.127.255.255", Special),
    ("[::ffff:100.64.0.1]", Special),
    ("169.254.0.1", Special),
    ("169.254.169.253", Special),
    // Documentation, benchmarks, protocols, multicast, reserved.
    ("192.0.0.1", Special),
    ("192.0.2.1", Special),
    ("192.88.99.1", Special),
    ("198.18.0.1", Special),
    ("198.19.255.255", Special),
    ("198.51.100.1", Special),
    ("203.0.113.1", Special),
    ("224.0.0.1", Special),
    ("239.255.255.250", Special),
    ("240.0.0.1", Special),
    ("255.255.255.255", Special),
    ("4294967295", Special),
    ("[fc00::1]", Special),
    ("[fd12:3456:789a::1]", Special),
    ("[fe80::1]", Special),
    ("[febf::1]", Special),
    ("[fec0::1]", Special),
    ("[ff02::1]", Special),
    ("[ff0e::1]", Special),
    ("[100::1]", Special),
    ("[2001:db8::1]", Special),
    ("[2001:10::1]", Special),
    ("[2001:20::1]", Special),
    ("[3fff::1]", Special),
    ("[5f00::1]", Special),
    ("[4000::1]", Special),
    ("[1::1]", Special),
    // Metadata, in every notation.
    ("169.254.169.254", Metadata),
    ("2852039166", Metadata),
    ("0xa9fea9fe", Metadata),
    ("0251.0376.0251.0376", Metadata),
    ("169.254.43518", Metadata),
    ("169.254.170.2", Metadata),
    ("169.254.170.23", Metadata),
    ("100.100.100.200", Metadata),
    ("192.0.0.192", Metadata),
    ("168.63.129.16", Metadata),
    ("[fd00:ec2::254]", Metadata),
    ("[fd20:ce::254]", Metadata),
    ("[::ffff:169.254.169.254]", Metadata),
    ("[::169.254.169.254]", Metadata),
    ("[64:ff9b::169.254.169.254]", Metadata),
    ("[64:ff9b::a9fe:a9fe]", Metadata),
    ("[64:ff9b:1::169.254.169.254]", Metadata),
    ("[64:ff9b:1:a9fe:a9:fe00::]", Metadata),
    ("[2002:a9fe:a9fe::]", Metadata),
    ("[2001:0:a9fe:a9fe::]", Metadata),
    ("[2001:0:0:0:0:0:5601:5601]", Metadata),
    ("[2001:470::5efe:169.254.169.254]", Metadata),
    ("[2002:101:101::5efe:169.254.169.254]", Metadata),
    ("[::ffff:0:169.254.169.254]", Metadata),
];

fn literal(host: &str) -> IpAddr {
    let url = Url::parse(&format!("https://{host}/EWS/Exchange.asmx")).unwrap();
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        other => panic!("{host} was read as {other:?}"),
    }
}

#[test]
fn addresses_in_urls_are_judged_by_what_they_reach() {
    let nothing = rules(&[]);
    assert!(HOSTS.iter().filter(|(_, expected)| *expected != Allowed).count() >= 60);
    for (host, expected) in HOSTS {
        assert_eq!(outcome(&nothing, literal(host)), *expected, "{host}");
        let url = Url::parse(&format!("https://{host}:8443/")).unwrap();
        assert_eq!(
            nothing.check_url(&url).is_ok(),
            *expected == Allowed,
            "{host} in a URL"
        );
    }
}

#[test]
fn metadata_addresses_stay_refused_when_everything_is_allowed() {
    let everything = rules(&["0.0.0.0/0", "::/0", "169.254.169.254", "fd00:ec2::254/128"]);
    for (host, expected) in HOSTS {
        let expected = if *expected == Metadata { Metadata } else { Allowed };
        assert_eq!(outcome(&everything, literal(host)), expected, "{host}");
    }
}

#[test]
fn allowed_networks_allow_exactly_what_they_name() {
    let rules = rules(&["10.1.0.0/16", "192.168.7.7", "fd12::/16", " 127.0.0.0/8 "]);
    let table = [
        ("10.1.255.255", Allowed),
        ("10.2.0.0", Special),
        ("192.168.7.7", Allowed),
        ("192.168.7.8", Special),
        ("fd12:ffff::1", Allowed),
        ("fd13::1", Special),
        ("127.0.0.1", Allowed),
        ("::1", Special),
        // IPv4 networks also apply to IPv6 forms of their addresses.
        ("::ffff:10.1.2.3", Allowed),
        ("64:ff9b::10.1.2.3", Allowed),
        ("64:ff9b::10.2.2.3", Special),
        ("2001:470::5efe:10.1.2.3", Allowed),
        // Tunnel addresses have to be allowed in their own form.
        ("2002:a01:203::1", Special),
        ("::10.1.2.3", Special),
        ("8.8.8.8", Allowed),
    ];
    for (address, expected) in table {
        assert_eq!(outcome(&rules, address.parse().unwrap()), expected, "{address}");
    }
}

#[test]
fn wrong_networks_are_refused_with_a_hint() {
    let table = [
        (
            "10.1.2.3/8",
            "\"10.1.2.3/8\" has bits set after its prefix; did you mean 10.0.0.0/8?",
        ),
        (
            "fd00::1/8",
            "\"fd00::1/8\" has bits set after its prefix; did you mean fd00::/8?",
        ),
        (
            "10.0.0.0/33",
            "\"10.0.0.0/33\": the prefix length must be a number from 0 to 32",
        ),
        (
            "::/129",
            "\"::/129\": the prefix length must be a number from 0 to 128",
        ),
        (
            "10.0.0.0/+8",
            "\"10.0.0.0/+8\": the prefix length must be a number from 0 to 32",
        ),
        (
            "10.0.0.0/",
            "\"10.0.0.0/\": the prefix length must be a number from 0 to 32",
        ),
        (
            "10.0.0.0/255.0.0.0",
            "\"10.0.0.0/255.0.0.0\": the prefix length must be a number from 0 to 32",
        ),
        (
            "intranet",
            "\"intranet\" is not a network: write an IP address and a prefix length, for example 10.0.0.0/8",
        ),
        (
            "10.0.0",
            "\"10.0.0\" is not a network: write an IP address and a prefix length, for example 10.0.0.0/8",
        ),
        (
            "::ffff:10.0.0.0/104",
            "\"::ffff:10.0.0.0/104\" is an IPv4-mapped network; write it as an IPv4 network",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(text.parse::<Network>().unwrap_err().to_string(), expected);
    }
    assert!(AddressRules::new(&["10.0.0.0/8".to_owned(), String::new()], false).is_err());
}

#[test]
fn urls_are_refused_for_scheme_and_credentials() {
    let strict = rules(&[]);
    let trial = AddressRules::new(&[], true).unwrap();
    let check = |rules: &AddressRules, text: &str| rules.check_url(&Url::parse(text).unwrap());
    assert!(check(&strict, "https://mail.contoso.example/EWS/Exchange.asmx").is_ok());
    assert!(check(&trial, "http://mail.contoso.example/").is_ok());
    let refused = check(&strict, "http://mail.contoso.example/people/anna").unwrap_err();
    assert!(refused.contains("allow_plain_http"), "{refused}");
    assert!(!refused.contains("anna"), "{refused}");
    for text in [
        "ftp://mail.contoso.example/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "gopher://1.1.1.1/",
    ] {
        assert!(check(&trial, text).is_err(), "{text}");
    }
    for text in [
        "https://anna:hunter2@mail.contoso.example/",
        "https://anna@1.1.1.1/",
        "https://:hunter2@1.1.1.1/",
    ] {
        let refused = check(&trial, text).unwrap_err();
        assert!(refused.contains("must not hold a user name"), "{refused}");
        assert!(
            !refused.contains("hunter2") && !refused.contains("anna"),
            "{refused}"
        );
    }
}

#[test]
fn of_a_names_addresses_only_the_allowed_are_used() {
    let rules = rules(&["10.0.0.0/8"]);
    let choose = |list: &[&str]| {
        let list: Vec<IpAddr> = list.iter().map(|text| text.parse().unwrap()).collect();
        rules.choose("sp.contoso.example", &list)
    };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(
        choose(&["fe80::1", "10.0.0.5", "1.1.1.1"]),
        Ok(vec![ip("10.0.0.5"), ip("1.1.1.1")])
    );
    let refused = choose(&["192.168.3.4", "::1"]).unwrap_err();
    assert!(
        refused.contains("sp.contoso.example leads to 192.168.3.4, which is private")
            && refused.contains("outbound.allowed_networks, for example \"192.168.3.4/32\""),
        "{refused}"
    );
    let refused = choose(&["64:ff9b::c0a8:304"]).unwrap_err();
    assert!(
        refused.contains("192.168.3.4 (reached through 64:ff9b::c0a8:304)"),
        "{refused}"
    );
    // One metadata address refuses the whole answer.
    let refused = choose(&["10.0.0.5", "169.254.169.254"]).unwrap_err();
    assert!(refused.contains("never connects there"), "{refused}");
    assert_eq!(choose(&[]), Err("sp.contoso.example has no address".to_owned()));
}
