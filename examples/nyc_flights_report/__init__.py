"""What the New York flights report needs besides its flow: the SQL, an independent count, charts and a page."""
