"""What one submodel's local training costs, found on a fake step; and what that means on a device."""
