"""Items -> titles -> token trie."""
