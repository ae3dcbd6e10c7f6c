//! Choice columns, whose texts depend on the site's language: which choice means which status or priority.
//! Pure.

use quick_xml::Reader;
use quick_xml::events::Event;
use tasksync_common::model::{Importance, Percent, Status};

/// The parts of a column's `SchemaXml` that its other properties lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schema {
    /// Attributes of the root element.
    pub(super) attributes: Vec<(String, String)>,
    /// `<CHOICE>` texts in their order.
    pub(super) choices: Vec<String>,
    /// The texts of `<MAPPING Value="n">`, each with the choice's language-independent number.
    pub(super) mappings: Vec<(i64, String)>,
}

impl Schema {
    /// Reads a column's XML as far as it is well-formed; what follows is ignored.
    pub(super) fn read(xml: &str) -> Self {
        let mut schema = Self::default();
        if xml.len() > 256 * 1024 {
            return schema;
        }
        let mut reader = Reader::from_str(xml);
        let mut first = true;
        // The element whose text is being read, with its number if it is a mapping.
        let mut open: Option<(Option<i64>, String)> = None;
        loop {
            match reader.read_event() {
                Ok(Event::Start(start) | Event::Empty(start)) => {
                    let attributes: Vec<(String, String)> = start
                        .attributes()
                        .with_checks(false)
                        .flatten()
                        .take(256)
                        .filter_map(|attribute| {
                            let value = attribute
                                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                                .ok()?;
                            Some((
                                attribute.key.local_name().into_inner().to_owned(),
                                value.into_owned(),
                            ))
                        })
                        .collect();
                    open = match start.local_name().into_inner() {
                        "CHOICE" => Some((None, String::new())),
                        "MAPPING" => attributes
                            .iter()
                            .find(|(name, _)| name == "Value")
                            .and_then(|(_, value)| value.trim().parse().ok())
                            .map(|number| (Some(number), String::new())),
                        _ => None,
                    };
                    if std::mem::take(&mut first) {
                        schema.attributes = attributes;
                    }
                }
                Ok(Event::Text(text)) => {
                    if let Some((_, gathered)) = &mut open {
                        gathered.push_str(&text.xml10_content());
                    }
                }
                Ok(Event::GeneralRef(reference)) => {
                    if let Some((_, gathered)) = &mut open {
                        match reference.resolve_char_ref() {
                            Ok(Some(character)) => gathered.push(character),
                            Ok(None) => {
                                gathered.push_str(
                                    quick_xml::escape::resolve_predefined_entity(&reference)
                                        .unwrap_or_default(),
                                );
                            }
                            Err(_) => {}
                        }
                    }
                }
                Ok(Event::End(_)) => match open.take() {
                    Some((None, text)) => schema.choices.push(text.trim().to_owned()),
                    Some((Some(number), text)) => schema.mappings.push((number, text.trim().to_owned())),
                    None => {}
                },
                Ok(Event::Eof) | Err(_) => return schema,
                Ok(_) => {}
            }
            if schema.choices.len() + schema.mappings.len() > 1_000 {
                return schema;
            }
        }
    }

    /// Returns an attribute of the root element.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(attribute, _)| attribute == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether an attribute is `TRUE`.
    pub(super) fn says(&self, name: &str) -> bool {
        self.attribute(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

const STATUS_ORDER: [Status; 5] = [
    Status::NotStarted,
    Status::InProgress,
    Status::Completed,
    Status::Deferred,
    Status::WaitingOnOthers,
];

const STATUS_ENGLISH: [&str; 5] = [
    "Not Started",
    "In Progress",
    "Completed",
    "Deferred",
    "Waiting on someone else",
];

/// The choice for each status, in SharePoint's order; `None` for a status that the list lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusChoices([Option<String>; 5]);

impl StatusChoices {
    /// Assigns choices by the schema's mappings; otherwise by the English words; otherwise, if there are
    /// exactly five choices, by order.
    pub(super) fn new(choices: &[String], mappings: &[(i64, String)]) -> Self {
        let mut found: [Option<String>; 5] = std::array::from_fn(|index| {
            mappings
                .iter()
                .find(|(number, _)| usize::try_from(*number).is_ok_and(|number| number == index + 1))
                .map(|(_, text)| text.clone())
                .filter(|text| choices.is_empty() || choices.contains(text))
        });
        if found.iter().all(Option::is_none) {
            found = STATUS_ENGLISH.map(|english| {
                choices
                    .iter()
                    .find(|choice| choice.eq_ignore_ascii_case(english))
                    .cloned()
            });
        }
        if found.iter().all(Option::is_none)
            && let [a, b, c, d, e] = choices
        {
            found = [a, b, c, d, e].map(|choice| Some(choice.clone()));
        }
        Self(found)
    }

    /// Returns the status of a text; `None` for a choice of the list's own.
    pub(super) fn read(&self, text: &str) -> Option<Status> {
        let text = text.trim();
        let at = self.0.iter().position(|choice| {
            choice
                .as_deref()
                .is_some_and(|choice| choice.eq_ignore_ascii_case(text))
        })?;
        STATUS_ORDER.get(at).copied()
    }

    /// Returns the choice to write. A status that the list lacks becomes the nearest one it has.
    pub(super) fn write(&self, status: Status, percent: Percent) -> Option<&str> {
        let choice = |wanted: Status| {
            let at = STATUS_ORDER.iter().position(|status| *status == wanted)?;
            self.0.get(at)?.as_deref()
        };
        let nearest = if percent == Percent::ZERO {
            Status::NotStarted
        } else {
            Status::InProgress
        };
        match status {
            Status::NotStarted | Status::InProgress | Status::Completed => choice(status),
            Status::Deferred | Status::WaitingOnOthers => choice(status).or_else(|| choice(nearest)),
        }
    }

    /// Returns whether the list has a choice for any status.
    pub(super) fn is_known(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

const IMPORTANCE_ORDER: [Importance; 3] = [Importance::High, Importance::Normal, Importance::Low];

/// The choice for each importance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PriorityChoices([String; 3]);

impl PriorityChoices {
    /// Assigns choices by their numbers, `(1) …`, `(2) …`, `(3) …`, in any language; otherwise, if there are
    /// exactly three, by order. Returns `None` if neither applies.
    pub(super) fn new(choices: &[String]) -> Option<Self> {
        let numbered = |number: usize| {
            let mark = format!("({number})");
            choices
                .iter()
                .find(|choice| choice.trim_start().starts_with(&mark))
                .cloned()
        };
        if let (Some(high), Some(normal), Some(low)) = (numbered(1), numbered(2), numbered(3)) {
            return Some(Self([high, normal, low]));
        }
        match choices {
            [high, normal, low] => Some(Self([high.clone(), normal.clone(), low.clone()])),
            _ => None,
        }
    }

    /// Returns the importance of a text; an unknown choice is normal.
    pub(super) fn read(&self, text: &str) -> Importance {
        self.0
            .iter()
            .position(|choice| choice.eq_ignore_ascii_case(text.trim()))
            .and_then(|at| IMPORTANCE_ORDER.get(at).copied())
            .unwrap_or_default()
    }

    /// Returns the choice to write.
    pub(super) fn write(&self, importance: Importance) -> &str {
        let [high, normal, low] = &self.0;
        match importance {
            Importance::High => high,
            Importance::Normal => normal,
            Importance::Low => low,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GERMAN: &str = r#"<Field ID="{c15b34c3-ce7d-490a-b133-3f4de8801b76}" Type="Choice" Name="TaskStatus" ReadOnly="FALSE">
        <CHOICES><CHOICE>Nicht begonnen</CHOICE><CHOICE>In Bearbeitung</CHOICE><CHOICE>Erledigt</CHOICE><CHOICE>Zurückgestellt</CHOICE><CHOICE>Wartet &amp; ruht</CHOICE></CHOICES>
        <MAPPINGS><MAPPING Value="5">Wartet &amp; ruht</MAPPING><MAPPING Value="1">Nicht begonnen</MAPPING><MAPPING Value="2">In Bearbeitung</MAPPING><MAPPING Value="3">Erledigt</MAPPING><MAPPING Value="4">Zurückgestellt</MAPPING></MAPPINGS><Default>Nicht begonnen</Default></Field>"#;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_german_list_by_its_mappings() {
        let schema = Schema::read(GERMAN);
        assert_eq!(schema.attribute("Name"), Some("TaskStatus"));
        assert!(!schema.says("ReadOnly"));
        assert_eq!(schema.choices.len(), 5);
        let choices = StatusChoices::new(&schema.choices, &schema.mappings);
        assert_eq!(choices.read("Erledigt"), Some(Status::Completed));
        assert_eq!(choices.read("wartet & ruht "), Some(Status::WaitingOnOthers));
        assert_eq!(
            choices.write(Status::Deferred, Percent::ZERO),
            Some("Zurückgestellt")
        );
        assert_eq!(choices.read("Completed"), None);
    }

    #[test]
    fn english_words_in_any_order_and_five_foreign_words_by_order() {
        let english = StatusChoices::new(&strings(&["Completed", "Not Started", "Blocked"]), &[]);
        assert_eq!(english.read("completed"), Some(Status::Completed));
        assert_eq!(english.read("Blocked"), None);
        assert_eq!(
            english.write(Status::Deferred, Percent::ZERO),
            Some("Not Started")
        );
        assert_eq!(english.write(Status::InProgress, Percent::ZERO), None);
        let french = StatusChoices::new(
            &strings(&["Non commencé", "En cours", "Terminé", "Différé", "En attente"]),
            &[],
        );
        assert_eq!(french.read("Terminé"), Some(Status::Completed));
        assert!(!StatusChoices::new(&strings(&["a", "b"]), &[]).is_known());
    }

    #[test]
    fn priorities_by_number_in_every_language() {
        for choices in [
            ["(1) High", "(2) Normal", "(3) Low"],
            ["(3) Niedrig", "(1) Hoch", "(2) Normal"],
            ["haut", "moyen", "bas"],
        ] {
            let priority = PriorityChoices::new(&strings(&choices)).unwrap();
            for importance in IMPORTANCE_ORDER {
                assert_eq!(
                    priority.read(priority.write(importance)),
                    importance,
                    "{choices:?}"
                );
            }
            assert_eq!(priority.read("(0) Now!"), Importance::Normal);
        }
        assert!(PriorityChoices::new(&strings(&["a", "b", "c", "d"])).is_none());
    }

    proptest! {
        #[test]
        fn no_schema_panics(xml in "(<Field |A=\"|\"|>|<CHOICE>|</CHOICE>|<MAPPING Value=\"1\">|</MAPPING>|&amp;|&#0;|&x;|<|ä){0,30}") {
            let schema = Schema::read(&xml);
            let _ = StatusChoices::new(&schema.choices, &schema.mappings);
            let _ = PriorityChoices::new(&schema.choices);
        }
    }
}
