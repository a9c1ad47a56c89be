"""Its being here makes the helpers of this folder importable from every test."""
