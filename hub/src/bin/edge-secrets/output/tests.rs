use std::cell::RefCell;
use std::io::Cursor;
use std::rc::Rc;

use super::*;

/// A [`Ui`] whose streams are in memory.
pub(crate) struct TestUi {
    pub(crate) ui: Ui,
    out: Shared,
    err: Shared,
}

impl TestUi {
    /// Nobody is there: input and output are not terminals.
    pub(crate) fn new(format: Option<Format>, input: &[u8]) -> Self {
        let (out, err) = (Shared::default(), Shared::default());
        let ui = Ui {
            format,
            yes: false,
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            input: Box::new(Cursor::new(input.to_vec())),
            out_is_terminal: false,
            in_is_terminal: false,
        };
        Self { ui, out, err }
    }

    /// Both are terminals.
    pub(crate) fn on_terminal(mut self) -> Self {
        self.ui.in_is_terminal = true;
        self.ui.out_is_terminal = true;
        self
    }

    /// `--yes`.
    pub(crate) fn yes(mut self) -> Self {
        self.ui.yes = true;
        self
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.out_bytes()).unwrap()
    }

    pub(crate) fn out_bytes(&self) -> Vec<u8> {
        self.out.0.borrow().clone()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.err.0.borrow().clone()).unwrap()
    }
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_ends_the_command_quietly() {
    let mut test = TestUi::new(None, b"");
    test.ui.out = Box::new(Gone);
    let error = test.ui.print("x").unwrap_err();
    assert_eq!(error.exit_code(), 0);
    test.ui.fail(&error);
    assert_eq!(test.err(), "");
}

#[test]
fn programs_get_an_empty_array_and_people_a_remark() {
    let list: [u8; 0] = [];
    for (format, out, err) in [
        (None, "", "No nodes.\n"),
        (Some(Format::Json), "[]\n", ""),
        (Some(Format::Yaml), "[]\n", ""),
    ] {
        let mut test = TestUi::new(format, b"");
        test.ui
            .show_list(&list, "No nodes.", |_| "x".into())
            .unwrap();
        assert_eq!((test.out().as_str(), test.err().as_str()), (out, err));
    }
}

#[test]
fn what_destroys_is_asked_about_or_wants_yes() {
    let confirm = |test: TestUi| {
        let mut test = test;
        let done = test.ui.confirm("Remove node edge-01?");
        (done.map_err(|error| error.exit_code()), test.err())
    };
    let (done, err) = confirm(TestUi::new(None, b"y\n"));
    assert_eq!((done, err.as_str()), (Err(64), ""));
    let (done, err) = confirm(TestUi::new(None, b"y\n").on_terminal());
    assert_eq!(
        (done, err.as_str()),
        (Ok(()), "Remove node edge-01? [y/N] ")
    );
    for answer in [&b"\n"[..], b"n\n", b"", b"yesterday\n", &[b'y'; 200]] {
        let (done, _) = confirm(TestUi::new(None, answer).on_terminal());
        assert_eq!(done, Err(1));
    }
    let (done, err) = confirm(TestUi::new(None, b"").yes());
    assert_eq!((done, err.as_str()), (Ok(()), ""));
}

#[test]
fn a_foreign_message_cannot_drive_the_terminal() {
    let mut test = TestUi::new(None, b"");
    test.ui.note("a\u{1b}]0;x\u{7}b");
    test.ui.print("c\r\u{8}d\n").unwrap();
    assert_eq!(test.err(), "a\\u{1b}]0;x\\u{7}b\n");
    assert_eq!(test.out(), "c\\r\\u{8}d\n");
}
