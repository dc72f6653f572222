//! Who may do what (Open Horizon's table, reference §2.4, without its confused deputy).
