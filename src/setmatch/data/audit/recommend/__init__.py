"""The training plan that an audit recommends, setting by setting."""
