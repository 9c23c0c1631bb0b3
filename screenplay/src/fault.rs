//! The kinds of faults: their names, and what a line about one must say.

/// Whom a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Nobody in particular, or all.
    Nobody,
    /// One node.
    One,
    /// Two nodes, each as much as the other.
    Two,
    /// What one node sends to another.
    Way,
}

/// In what a fault's amount is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// It has none.
    Nothing,
    /// Milliseconds, never negative: `by 100ms`.
    Span,
    /// Milliseconds, ahead or behind: `by -1d`.
    Shift,
    /// Parts in a million, ahead or behind: `by -500ppm`.
    Ppm,
    /// Of a hundred: `by 30%`.
    Percent,
    /// Kilobytes a second: `by 100kB/s`.
    Rate,
}

/// Whether a fault goes on for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// It happens; what follows takes its own time.
    Instant,
    /// A node is down for a time, two seconds if nothing is said.
    Down,
    /// The line must say how long.
    Given,
}

/// What a line about a fault must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Whom it befalls.
    pub whom: Whom,
    /// By how much.
    pub amount: Amount,
    /// For how long.
    pub lasting: Lasting,
}

const fn form(whom: Whom, amount: Amount, lasting: Lasting) -> Option<Form> {
    Some(Form { whom, amount, lasting })
}

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $form:expr;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $kind,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Fault] = &[$(Fault::$kind,)*];

            /// Its name in scripts, on the command line and in counters.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Fault::$kind => $name,)* }
            }

            /// What a line about it must say; `None` for a kind that comes by chance only.
            #[must_use]
            pub fn form(self) -> Option<Form> {
                use {Amount::*, Lasting::*, Whom::*};
                match self { $(Fault::$kind => $form,)* }
            }
        }
    };
}

faults! {
    /// A process is killed at an await.
    Kill = "kill", form(One, Nothing, Down);
    /// A process is killed, or its machine loses power, at a named point of the code. In a script it is a `kill` or a
    /// `power` at its time.
    Point = "point", None;
    /// A machine loses power: unsynced data is gone or torn.
    Power = "power", form(One, Nothing, Down);
    /// All machines lose power at once.
    PowerAll = "power-all", form(Nobody, Nothing, Down);
    /// A process is stopped as by SIGTERM, and started again a second after its end.
    Restart = "restart", form(One, Nothing, Instant);
    /// A process is stopped as by SIGSTOP, for up to minutes, and goes on.
    Pause = "pause", form(One, Nothing, Given);
    /// One machine and the others do not hear each other.
    Isolate = "isolate", form(One, Nothing, Given);
    /// Two machines do not hear each other.
    Partition = "partition", form(Two, Nothing, Given);
    /// What one machine sends to another is lost.
    OneWay = "one-way", form(Way, Nothing, Given);
    /// A link that is cut and whole in turns. In a script each turn is a `partition`.
    Flap = "flap", None;
    /// A machine's links are slow.
    Latency = "latency", form(One, Span, Given);
    /// A machine's links carry little at a time.
    Narrow = "narrow", form(One, Rate, Given);
    /// Datagrams between two machines are lost, doubled and overtake each other.
    Datagrams = "datagrams", form(Two, Percent, Given);
    /// A connection breaks.
    Reset = "reset", form(Nobody, Nothing, Instant);
    /// Syncs take long.
    SlowSync = "slow-sync", form(One, Span, Given);
    /// A disk does not answer, from less than a lease to longer than a node waits for it: a sync that stalls.
    Stall = "stall", form(One, Nothing, Given);
    /// A disk is full, log and stores.
    Full = "full", form(One, Nothing, Given);
    /// There is no room for the log.
    FullLog = "full-log", form(One, Nothing, Given);
    /// There is no room for the stores.
    FullStores = "full-stores", form(One, Nothing, Given);
    /// A sync of the log fails; the machine is restarted when that is over.
    SyncError = "sync-error", form(One, Nothing, Given);
    /// Reads fail with EIO, all or some; the machine is restarted when that is over.
    ReadError = "read-error", form(One, Nothing, Given);
    /// Writes fail with EIO, all or some; the machine is restarted when that is over.
    WriteError = "write-error", form(One, Nothing, Given);
    /// Bits turn over where something is stored; an operator replaces the machine when the time is over.
    Rot = "rot", form(One, Nothing, Given);
    /// A sector is written where another belongs; an operator replaces the machine when the time is over.
    Misdirect = "misdirect", form(One, Nothing, Given);
    /// A machine comes back, when the time is over, with what its disk was when it began.
    OldImage = "old-image", form(One, Nothing, Given);
    /// A wall clock jumps, and back.
    ClockStep = "clock-step", form(One, Shift, Given);
    /// A wall clock drifts, and is set right.
    ClockDrift = "clock-drift", form(One, Ppm, Given);
    /// A machine comes back with an empty disk.
    Wipe = "wipe", form(One, Nothing, Instant);
    /// A node of another cluster, one under the name of this machine, or one at an address that another has left.
    Stranger = "stranger", form(One, Nothing, Given);
    /// Many more writers and readers than the cluster can serve.
    Overload = "overload", form(Nobody, Nothing, Given);
    /// An operator offers another configuration, or a broken one.
    Configure = "configure", form(One, Nothing, Instant);
}

impl Fault {
    /// The kind of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Whether it leaves a machine with a disk that cannot be relied on. Then nothing else may go wrong until there
    /// are three copies again: more than one lost disk is more than is promised.
    #[must_use]
    pub fn costs_a_disk(self) -> bool {
        matches!(self, Fault::Rot | Fault::Misdirect | Fault::OldImage | Fault::Wipe)
    }

    /// Whether it begins only in a world that is whole and undisturbed: what a disk forgets without being able to know
    /// it must be on both others, and a name may be taken over from a machine that is silent.
    #[must_use]
    pub fn needs_calm(self) -> bool {
        matches!(self, Fault::Rot | Fault::Misdirect | Fault::OldImage | Fault::Stranger)
    }

    /// A line about it, as an error shows it.
    #[must_use]
    pub fn usage(self) -> String {
        let Some(form) = self.form() else { return format!("{} comes by chance only", self.name()) };
        let whom = match form.whom {
            Whom::Nobody => "",
            Whom::One => " NODE",
            Whom::Two => " NODE NODE",
            Whom::Way => " NODE -> NODE",
        };
        let amount = match form.amount {
            Amount::Nothing => "",
            Amount::Span => " by SPAN",
            Amount::Shift => " by [-]SPAN",
            Amount::Ppm => " by [-]NUMBERppm",
            Amount::Percent => " by NUMBER%",
            Amount::Rate => " by NUMBERkB/s",
        };
        let lasting = match form.lasting {
            Lasting::Instant => "",
            Lasting::Down => " [for SPAN]",
            Lasting::Given => " for SPAN",
        };
        format!("at SPAN {}{whom}{amount}{lasting}", self.name())
    }
}
