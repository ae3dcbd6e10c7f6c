//! Servers that sign people in as servers on premises do: Apache with NTLM and Kerberos, the key distribution centre of
//! a realm, and a server that checks the channel binding. None of them shares code with tasksync.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::process::{Launch, ServerProcess, Signal};
use super::run_as::RunAs;
use super::server::{Home, Recipe, Server};
use super::{PrivateAuthority, ServerCertificate, ServiceError, ServiceFolder, net, ports};

/// Time limit for one step of the preparation.
const STEP_LIMIT: Duration = Duration::from_mins(1);

/// Accounts that the servers may run as when this process is root: Apache refuses to be root.
const ACCOUNTS: &[&str] = &["www-data", "nobody"];

/// The realm of the key distribution centre.
pub const REALM: &str = "CORP.TEST";

/// The accounts' name in the realm and the domain `CORP`, and their passwords.
pub const PEOPLE: [(&str, &str); 2] = [("svc", "Pa55word"), ("other", "S3cond-word")];

/// The first of [`PEOPLE`] with the digest of the password (SHA-1), as Apache's Basic reads it.
const BASIC_USER: &str = "svc:{SHA}eMh7DtTeZPgXdqKJ+Mzv4dR37gE=\n";

/// The addresses to which Apache passes the requests of people who signed in.
#[derive(Debug, Clone)]
pub struct Backends {
    /// A server of Exchange, without a path.
    pub exchange: String,
    /// A server of SharePoint, without a path.
    pub sharepoint: String,
    /// The `Authorization` header that both accept.
    pub authorization: String,
}

/// The running servers. All listen on `localhost`.
pub type OnPremises = Server<OnPremisesRecipe>;

/// How the servers are started.
#[derive(Debug)]
pub struct OnPremisesRecipe {
    ports: Ports,
    python: PathBuf,
    certificate: ServerCertificate,
    backends: Option<Backends>,
    account: RunAs,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    kdc: u16,
    echo: u16,
    checker: u16,
    basic: u16,
    ntlm: u16,
    negotiate: u16,
    exchange: u16,
    sharepoint: u16,
}

impl Ports {
    fn free() -> Result<Self, ServiceError> {
        Ok(Self {
            kdc: ports::free_port()?,
            echo: ports::free_port()?,
            checker: ports::free_port()?,
            basic: ports::free_port()?,
            ntlm: ports::free_port()?,
            negotiate: ports::free_port()?,
            exchange: ports::free_port()?,
            sharepoint: ports::free_port()?,
        })
    }
}

impl OnPremises {
    /// Starts the servers in `folder` and waits until they answer. `python` is an interpreter with pyspnego; the
    /// servers show a certificate of `authority`.
    ///
    /// # Errors
    /// [`ServiceError::NotInstalled`], or why they do not start, with the last lines of the log.
    pub async fn start(
        folder: &Arc<ServiceFolder>,
        python: &Path,
        authority: &PrivateAuthority,
        backends: Option<Backends>,
    ) -> Result<Self, ServiceError> {
        let account = RunAs::one_of(ACCOUNTS, folder)?;
        let certificate = authority.certify(&["localhost"])?;
        Self::start_new(folder, "on-premises", || {
            Ok(OnPremisesRecipe {
                ports: Ports::free()?,
                python: python.to_owned(),
                certificate: certificate.clone(),
                backends: backends.clone(),
                account,
            })
        })
        .await
    }

    /// Returns the key distribution centre as `localhost:PORT`.
    #[must_use]
    pub fn kdc(&self) -> String {
        format!("localhost:{}", self.recipe().ports.kdc)
    }

    /// Returns the address at which Apache offers Basic, over TLS. It answers with what it received.
    #[must_use]
    pub fn basic(&self) -> String {
        format!("https://localhost:{}/", self.recipe().ports.basic)
    }

    /// Returns the address at which Apache offers NTLM, alone and inside Negotiate, over TLS. It answers with what it
    /// received.
    #[must_use]
    pub fn ntlm(&self) -> String {
        format!("https://localhost:{}/", self.recipe().ports.ntlm)
    }

    /// Returns the address at which Apache offers Negotiate with Kerberos, over TLS. It answers with what it
    /// received.
    #[must_use]
    pub fn negotiate(&self) -> String {
        format!("https://localhost:{}/", self.recipe().ports.negotiate)
    }

    /// Returns the address of the server that checks the channel binding, over TLS.
    #[must_use]
    pub fn checker(&self) -> String {
        format!("https://localhost:{}/", self.recipe().ports.checker)
    }

    /// Returns the address at which Apache offers NTLM in front of [`Backends::exchange`], without a path.
    #[must_use]
    pub fn exchange(&self) -> String {
        format!("http://localhost:{}", self.recipe().ports.exchange)
    }

    /// Returns the address at which Apache offers Kerberos in front of [`Backends::sharepoint`], without a path.
    #[must_use]
    pub fn sharepoint(&self) -> String {
        format!("http://localhost:{}", self.recipe().ports.sharepoint)
    }

    /// Returns the requests to `url` that Apache answered so far: the number of the request on its connection, from 0,
    /// and the status.
    #[must_use]
    pub fn requests(&self, url: &str) -> Vec<(u32, u16)> {
        self.logged(|logged| url.ends_with(logged))
    }

    /// Does the same for all requests to a port.
    #[must_use]
    pub fn requests_at(&self, port: &str) -> Vec<(u32, u16)> {
        let start = format!(":{port}/");
        self.logged(|logged| logged.starts_with(&start))
    }

    fn logged(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<(u32, u16)> {
        let log = std::fs::read_to_string(self.home().join("data/access")).unwrap_or_default();
        log.lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                let number = words.next()?.parse().ok()?;
                let status = words.next()?.parse().ok()?;
                is_wanted(words.next()?).then_some((number, status))
            })
            .collect()
    }
}

impl OnPremisesRecipe {
    fn write(&self, path: &Path, text: &str) -> Result<(), ServiceError> {
        std::fs::write(path, text).map_err(ServiceError::system(path.display().to_string()))?;
        self.account.give(path, 0o600)
    }

    /// Runs one program to its end.
    async fn run(
        &self,
        home: &Home,
        folder: &Arc<ServiceFolder>,
        program: PathBuf,
        arguments: &[&str],
    ) -> Result<(), ServiceError> {
        let shown = program.display().to_string();
        let mut command = self.account.command(&program);
        command.extend(arguments.iter().map(OsString::from));
        let mut launch = Launch::new(command, home.data(), home.log(), Signal::Kill);
        launch.environment = environment(&home.data());
        let mut process = ServerProcess::start(folder, &launch)?;
        match process.wait(STEP_LIMIT).await {
            Some(status) if status.success() => Ok(()),
            status => Err(ServiceError::Failed {
                service: Self::NAME.to_owned(),
                problem: status.map_or_else(
                    || format!("{shown} did not end within {} s", STEP_LIMIT.as_secs()),
                    |status| format!("{shown} ended with {status}"),
                ),
                log: std::fs::read_to_string(home.log()).unwrap_or_default(),
            }),
        }
    }

    /// Returns the configuration of Apache: one server for each way of signing in.
    fn apache(&self, data: &Path) -> String {
        let mut text = String::new();
        let modules = "/usr/lib/apache2/modules";
        for module in [
            "mpm_event",
            "authn_core",
            "authz_core",
            "authz_user",
            "ssl",
            "auth_gssapi",
            "auth_basic",
            "authn_file",
            "headers",
            "proxy",
            "proxy_http",
            "socache_shmcb",
        ] {
            let _ = writeln!(text, "LoadModule {module}_module {modules}/mod_{module}.so");
        }
        let data = data.display();
        let _ = write!(
            text,
            "ServerRoot {data}\nPidFile {data}/apache.pid\nServerName localhost\nErrorLog {data}/error\n\
             LogFormat \"%k %>s :%p%U\" short\nCustomLog {data}/access short\nBufferedLogs Off\nProxyRequests Off\n\
             KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 120\nMutex file:{data} default\n\
             DefaultRuntimeDir {data}\n"
        );
        let echo = format!("http://127.0.0.1:{}", self.ports.echo);
        let gssapi = "AuthType GSSAPI\nGssapiConnectionBound On\nGssapiSSLonly Off\n";
        let kerberos = format!("{gssapi}GssapiCredStore keytab:{data}/http.keytab\nGssapiAllowedMech krb5\n");
        let ntlm = format!("{gssapi}GssapiAllowedMech ntlmssp\n");
        let basic = format!("AuthType Basic\nAuthBasicProvider file\nAuthUserFile {data}/basic\n");
        let backends = self.backends.as_ref();
        let to = |address: Option<&String>| address.cloned().unwrap_or_else(|| echo.clone());
        for (port, tls, allowed, backend) in [
            (self.ports.basic, true, &basic, echo.clone()),
            (self.ports.ntlm, true, &ntlm, echo.clone()),
            (self.ports.negotiate, true, &kerberos, echo.clone()),
            (
                self.ports.exchange,
                false,
                &ntlm,
                to(backends.map(|to| &to.exchange)),
            ),
            (
                self.ports.sharepoint,
                false,
                &kerberos,
                to(backends.map(|to| &to.sharepoint)),
            ),
        ] {
            let encryption = if tls {
                format!(
                    "SSLEngine on\nSSLCertificateFile {data}/certificate.pem\nSSLCertificateKeyFile {data}/key.pem\n"
                )
            } else {
                String::new()
            };
            let authorization = match (tls, backends) {
                (false, Some(backends)) => {
                    format!("RequestHeader set Authorization \"{}\"\n", backends.authorization)
                }
                (true | false, _) => "RequestHeader unset Authorization\n".to_owned(),
            };
            let _ = write!(
                text,
                "Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\n{encryption}<Location />\n\
                 AuthName corp\n{allowed}Require valid-user\n{authorization}\
                 RequestHeader set X-Remote-User expr=%{{REMOTE_USER}}\nProxyPass {backend}/\n</Location>\n</VirtualHost>\n"
            );
        }
        text
    }
}

fn environment(data: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("KRB5_CONFIG", data.join("krb5.conf").into()),
        ("KRB5_KDC_PROFILE", data.join("kdc.conf").into()),
        ("NTLM_USER_FILE", data.join("users").into()),
        ("HOME", data.into()),
    ]
}

impl Recipe for OnPremisesRecipe {
    const NAME: &'static str = "on-premises sign-in";
    const STOP: Signal = Signal::Terminate;
    const DISCARD: Signal = Signal::Kill;
    const START_LIMIT: Duration = Duration::from_mins(1);

    async fn prepare(&self, home: &Home, folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        let data = home.data();
        if data.join("httpd.conf").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&data).map_err(ServiceError::system(data.display().to_string()))?;
        self.account.give(&home.path, 0o755)?;
        self.account.give(&data, 0o700)?;
        let shown = data.display();
        let (kdc, domain) = (self.ports.kdc, REALM.to_lowercase());
        // Each "{" ends its line.
        self.write(
            &data.join("krb5.conf"),
            &format!(
                "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\nrdns = false\n\
                 dns_canonicalize_hostname = false\n[realms]\n{REALM} = {{\nkdc = 127.0.0.1:{kdc}\n}}\n\
                 [domain_realm]\n.{domain} = {REALM}\n"
            ),
        )?;
        self.write(
            &data.join("kdc.conf"),
            &format!(
                "[kdcdefaults]\nkdc_listen = 127.0.0.1:{kdc}\nkdc_tcp_listen = 127.0.0.1:{kdc}\n[realms]\n{REALM} = {{\n\
                 database_name = {shown}/principal\nkey_stash_file = {shown}/stash\nacl_file = {shown}/acl\n}}\n"
            ),
        )?;
        let users = PEOPLE
            .map(|(name, password)| format!("CORP:{name}:{password}\n"))
            .concat();
        self.write(&data.join("users"), &users)?;
        self.write(&data.join("basic"), BASIC_USER)?;
        self.write(&data.join("certificate.pem"), &self.certificate.certificate)?;
        self.write(&data.join("key.pem"), &self.certificate.key)?;
        self.write(&data.join("checker.py"), include_str!("checker.py"))?;
        let program = |program, package| folder.binaries().program(program, package);
        let kdb = program("kdb5_util", "krb5-kdc")?;
        self.run(home, folder, kdb, &["create", "-s", "-r", REALM, "-P", "master"])
            .await?;
        let mut script =
            String::from("addprinc -randkey HTTP/localhost\nktadd -k http.keytab HTTP/localhost\n");
        for (name, password) in PEOPLE {
            let _ = writeln!(script, "addprinc -pw {password} +requires_preauth {name}");
        }
        self.write(&data.join("principals"), &script)?;
        let kadmin = program("kadmin.local", "krb5-admin-server")?;
        let run = format!("exec {} < principals", kadmin.display());
        self.run(home, folder, "/bin/sh".into(), &["-c", &run]).await?;
        self.write(&data.join("httpd.conf"), &self.apache(&data))
    }

    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        let data = home.data();
        let binaries = folder.binaries();
        let launch = |program: &Path, arguments: &[OsString], listens| {
            let mut command = self.account.command(program);
            command.extend(arguments.iter().cloned());
            let mut launch = Launch::new(command, data.clone(), home.log(), Self::DISCARD);
            launch.environment = environment(&data);
            launch.listens = Some(listens);
            launch
        };
        // It runs as this process: other accounts may not reach the interpreter.
        let mut checker = Launch::new(
            vec![
                self.python.clone().into(),
                data.join("checker.py").into(),
                data.clone().into(),
                self.ports.echo.to_string().into(),
                self.ports.checker.to_string().into(),
            ],
            data.clone(),
            home.log(),
            Self::DISCARD,
        );
        checker.listens = Some(self.ports.echo);
        Ok(vec![
            launch(
                &binaries.program("krb5kdc", "krb5-kdc")?,
                &["-n".into()],
                self.ports.kdc,
            ),
            checker,
            launch(
                &binaries.program("apache2", "apache2")?,
                &["-f".into(), data.join("httpd.conf").into(), "-DFOREGROUND".into()],
                self.ports.sharepoint,
            ),
        ])
    }

    async fn ready(&self, _home: &Home, _pid: u32) -> Result<(), String> {
        for port in [
            self.ports.kdc,
            self.ports.checker,
            self.ports.ntlm,
            self.ports.sharepoint,
        ] {
            if !net::is_open(port).await {
                return Err(format!("nothing listens on port {port}"));
            }
        }
        Ok(())
    }
}
