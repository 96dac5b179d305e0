"""Record → sentence, table, chart, page. Nothing is measured here."""
