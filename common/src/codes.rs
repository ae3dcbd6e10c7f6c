//! Stable codes with their texts.

/// Declares an enum of stable codes. A row has the code as text, its message (what happened) and its action
/// (what to do). The enum gets `ALL`, `as_str`, `message` and `action`; the caller adds further columns
/// itself.
#[macro_export]
macro_rules! codes {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$of_row:meta])* $variant:ident $text:literal $message:literal $action:literal;)*
        }
    ) => {
        $(#[$about])*
        pub enum $name {
            $(#[doc = $message] $(#[$of_row])* $variant,)*
        }

        impl $name {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the code as text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Returns what happened, in one plain sentence.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// Returns what to do about it.
            #[must_use]
            pub fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}
