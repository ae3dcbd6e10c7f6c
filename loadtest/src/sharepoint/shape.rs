//! The two forms of SharePoint's JSON: verbose (`d`, `results`, `__metadata`) and light (`value`, `odata.*`).

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::errors::SpError;

/// The amount of metadata that the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetadataMode {
    Verbose,
    Minimal,
    None,
}

impl MetadataMode {
    /// Parses an `Accept` header. Plain `application/json` means minimal metadata. For a header without JSON,
    /// SharePoint answers with Atom, which this server does not implement.
    pub(crate) fn accepted(accept: Option<&str>) -> Option<Self> {
        let accept = accept?.to_ascii_lowercase();
        if accept.contains("odata=verbose") {
            Some(Self::Verbose)
        } else if accept.contains("odata=nometadata") {
            Some(Self::None)
        } else if accept.contains("application/json") || accept.contains("*/*") {
            Some(Self::Minimal)
        } else {
            None
        }
    }

    /// Returns the `Content-Type` of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Verbose => "application/json;odata=verbose;charset=utf-8",
            Self::Minimal => "application/json;odata=minimalmetadata;streaming=true;charset=utf-8",
            Self::None => "application/json;odata=nometadata;streaming=true;charset=utf-8",
        }
    }
}

/// Named properties in the order of their creation.
pub(crate) type NamedProperties = Vec<(Cow<'static, str>, Node)>;

/// One value inside an answer.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A number, text, boolean or null.
    Plain(Value),
    /// A collection of primitive values with its Edm type.
    Primitives(&'static str, Vec<Value>),
    /// A complex value with its type name.
    Complex(&'static str, NamedProperties),
    /// An expanded entity.
    Entity(Entity),
    /// An expanded set of entities.
    Set(Vec<Entity>),
    /// A related resource that is not expanded.
    Deferred(String),
}

impl<T: Into<Value>> From<T> for Node {
    fn from(value: T) -> Self {
        Self::Plain(value.into())
    }
}

/// An entity with its type, address and version.
#[derive(Debug, Clone)]
pub(crate) struct Entity {
    pub(crate) kind: Cow<'static, str>,
    pub(crate) uri: String,
    pub(crate) etag: Option<String>,
    pub(crate) properties: NamedProperties,
}

/// The content of an answer.
#[derive(Debug, Clone)]
pub(crate) enum AnswerContent {
    Entity(Entity),
    Feed {
        entries: Vec<Entity>,
        next: Option<String>,
    },
    /// The result of a method or one property, under its name.
    Named(Cow<'static, str>, Node),
}

impl Entity {
    /// Keeps the properties that `$select` names. Paths of the form `Part/Name` select inside expanded parts. Names in
    /// `hidden` are returned only on request.
    pub(crate) fn select(
        mut self,
        select: &[String],
        expand: &[String],
        hidden: &[&str],
    ) -> Result<Self, SpError> {
        let all = select.is_empty() || select.iter().any(|name| name == "*");
        for name in select.iter().filter(|name| *name != "*") {
            let head = name.split('/').next().unwrap_or_default();
            if !self
                .properties
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(head))
            {
                return Err(SpError::no_field(name));
            }
        }
        for path in expand {
            let head = path.split('/').next().unwrap_or_default();
            if !self
                .properties
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(head))
            {
                return Err(SpError::no_field(path));
            }
        }
        let mut kept = NamedProperties::new();
        for (name, node) in self.properties {
            let below = |paths: &[String]| -> Vec<String> {
                paths
                    .iter()
                    .filter_map(|path| path.split_once('/'))
                    .filter(|(head, _)| head.eq_ignore_ascii_case(&name))
                    .map(|(_, tail)| tail.to_owned())
                    .collect()
            };
            let head_matches = |path: &String| {
                path.split('/')
                    .next()
                    .is_some_and(|head| head.eq_ignore_ascii_case(&name))
            };
            let expanded = expand.iter().any(head_matches);
            let asked = select.iter().any(head_matches);
            if !(asked || expanded || all && !hidden.contains(&name.as_ref())) {
                continue;
            }
            let node = match node {
                Node::Entity(entity) if expanded => {
                    Node::Entity(entity.select(&below(select), &below(expand), hidden)?)
                }
                Node::Entity(entity) => Node::Deferred(entity.uri),
                Node::Set(entries) if expanded => Node::Set(
                    entries
                        .into_iter()
                        .map(|entry| entry.select(&below(select), &below(expand), hidden))
                        .collect::<Result<_, _>>()?,
                ),
                Node::Set(_) => Node::Deferred(format!("{}/{name}", self.uri)),
                node @ (Node::Plain(_) | Node::Primitives(..) | Node::Complex(..) | Node::Deferred(_)) => {
                    node
                }
            };
            kept.push((name, node));
        }
        self.properties = kept;
        Ok(self)
    }

    /// Returns one property by name, ignoring case.
    pub(crate) fn property(self, name: &str) -> Option<AnswerContent> {
        let (name, node) = self
            .properties
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(match node {
            Node::Entity(entity) => AnswerContent::Entity(entity),
            Node::Set(entries) => AnswerContent::Feed { entries, next: None },
            node @ (Node::Plain(_) | Node::Primitives(..) | Node::Complex(..) | Node::Deferred(_)) => {
                AnswerContent::Named(name, node)
            }
        })
    }
}

impl AnswerContent {
    /// Returns the answer's body in the requested form. `service` is the address of `_api`.
    pub(crate) fn render(self, mode: MetadataMode, service: &str) -> Value {
        match mode {
            MetadataMode::Verbose => json!({ "d": self.verbose() }),
            MetadataMode::Minimal | MetadataMode::None => self.light(mode, service),
        }
    }

    fn verbose(self) -> Value {
        match self {
            Self::Entity(entity) => entity.render(MetadataMode::Verbose),
            Self::Feed { entries, next } => {
                let results: Vec<Value> = entries
                    .into_iter()
                    .map(|entry| entry.render(MetadataMode::Verbose))
                    .collect();
                match next {
                    Some(next) => json!({ "results": results, "__next": next }),
                    None => json!({ "results": results }),
                }
            }
            Self::Named(name, node) => json!({ name.into_owned(): node.render(MetadataMode::Verbose) }),
        }
    }

    fn light(self, mode: MetadataMode, service: &str) -> Value {
        let mut map = Map::new();
        if mode == MetadataMode::Minimal {
            map.insert("odata.metadata".to_owned(), format!("{service}/$metadata").into());
        }
        match self {
            Self::Entity(entity) => {
                if let Value::Object(inner) = entity.render(mode) {
                    map.extend(inner);
                }
            }
            Self::Feed { entries, next } => {
                let entries = entries.into_iter().map(|entry| entry.render(mode)).collect();
                map.insert("value".to_owned(), Value::Array(entries));
                if let Some(next) = next {
                    map.insert("odata.nextLink".to_owned(), next.into());
                }
            }
            Self::Named(_, Node::Complex(_, properties)) => {
                map.extend(
                    properties
                        .into_iter()
                        .map(|(name, node)| (name.into_owned(), node.render(mode))),
                );
            }
            Self::Named(_, node) => {
                map.insert("value".to_owned(), node.render(mode));
            }
        }
        Value::Object(map)
    }
}

impl Entity {
    fn render(self, mode: MetadataMode) -> Value {
        let mut map = Map::new();
        match mode {
            MetadataMode::Verbose => {
                let mut metadata = Map::new();
                metadata.insert("id".to_owned(), self.uri.clone().into());
                metadata.insert("uri".to_owned(), self.uri.into());
                metadata.insert("type".to_owned(), self.kind.into_owned().into());
                if let Some(etag) = self.etag {
                    metadata.insert("etag".to_owned(), etag.into());
                }
                map.insert("__metadata".to_owned(), Value::Object(metadata));
            }
            MetadataMode::Minimal => {
                map.insert("odata.type".to_owned(), self.kind.into_owned().into());
                map.insert("odata.id".to_owned(), self.uri.clone().into());
                map.insert("odata.editLink".to_owned(), self.uri.into());
                if let Some(etag) = self.etag {
                    map.insert("odata.etag".to_owned(), etag.into());
                }
            }
            MetadataMode::None => {}
        }
        for (name, node) in self.properties {
            match (mode, node) {
                (MetadataMode::Minimal, Node::Deferred(uri)) => {
                    map.insert(format!("{name}@odata.navigationLinkUrl"), uri.into());
                }
                (MetadataMode::None, Node::Deferred(_)) => {}
                (_, node) => {
                    map.insert(name.into_owned(), node.render(mode));
                }
            }
        }
        Value::Object(map)
    }
}

impl Node {
    fn render(self, mode: MetadataMode) -> Value {
        let verbose = mode == MetadataMode::Verbose;
        match self {
            Self::Plain(value) => value,
            Self::Primitives(kind, values) if verbose => {
                json!({ "__metadata": { "type": format!("Collection({kind})") }, "results": values })
            }
            Self::Primitives(_, values) => Value::Array(values),
            Self::Complex(kind, properties) => {
                let mut map = Map::new();
                if verbose {
                    map.insert("__metadata".to_owned(), json!({ "type": kind }));
                }
                map.extend(
                    properties
                        .into_iter()
                        .map(|(name, node)| (name.into_owned(), node.render(mode))),
                );
                Value::Object(map)
            }
            Self::Entity(entity) => entity.render(mode),
            Self::Set(entries) => {
                let entries: Vec<Value> = entries.into_iter().map(|entry| entry.render(mode)).collect();
                if verbose {
                    json!({ "results": entries })
                } else {
                    Value::Array(entries)
                }
            }
            Self::Deferred(uri) => json!({ "__deferred": { "uri": uri } }),
        }
    }
}

/// Returns an error's body in the requested form.
pub(crate) fn error_body(error: &SpError, mode: MetadataMode) -> Value {
    let inner = json!({ "code": error.code, "message": { "lang": "en-US", "value": error.message } });
    match mode {
        MetadataMode::Verbose => json!({ "error": inner }),
        MetadataMode::Minimal | MetadataMode::None => json!({ "odata.error": inner }),
    }
}
